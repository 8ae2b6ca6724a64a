'use strict'

// A node: the addon's, with functions and events for its owner.

const { EventEmitter, captureRejectionSymbol } = require('node:events')
const { setImmediate: turn } = require('node:timers/promises')
const addon = require('../addon')
const { LONGEST_TIMER_MS, isTaskId } = require('./checks')
const { leaveAtExit } = require('./environment')
const { call } = require('./calls')
const { abandon, ends, isBlob, spool } = require('./content')
const { AtsP2pError, invalid, wrap } = require('./error')
const { OfferQueues } = require('./offers')
const { CALL_OPTIONS, OFFERS_OPTIONS, WATCH_OPTIONS, checkOptions, checkSend, checkTarget } = require('./options')
const { allocate, receive } = require('./received')
const { onAbort } = require('./signals')
const { Unattended, publish, traced } = require('./tracing')
const { Transfers } = require('./transfers')

// What says which file it is.
const CONTENT = ['filePath', 'filePaths', 'fileName', 'exclude', 'gitignore']

/** One agent's end: sends files, watches for offers, says what happens as events. */
class Node extends EventEmitter {
  #native
  #destroyed = null
  // Ends what is read of streams before the addon knows of it.
  #ending = new AbortController()
  // Whether a watch, or who waits for an offer, keeps the process alive; and by what.
  #watching = false
  #waiting = false
  #alive = null
  // What decides about offers, and each watch, by its tag.
  #shouldAccept
  #watches = []
  #iterated = new Set()
  #offers = new OfferQueues(handle => this.#native?.isOpen(handle) ?? false, waiting => this.#stayAlive({ waiting }))
  #transfers = new Transfers()
  #unattended = new Unattended(this)
  #publicKey
  // Calls that have not settled, and the transfers that failed meanwhile: see [captureRejectionSymbol].
  #calls = 0
  #failed = new Set()
  #reported = new WeakSet()

  constructor ({ shouldAccept, ...options }) {
    super({ captureRejections: true })
    this.#shouldAccept = shouldAccept
    try {
      leaveAtExit()
      this.#native = addon.NativeNode.create(options, event => this.#dispatch(event))
    } catch (error) {
      throw wrap(error)
    }
  }

  async send (options) {
    const { recipientIds, ...checked } = checkSend(options)
    try {
      return await (recipientIds ? this.#sendToAll(recipientIds, checked) : this.#send(checked))
    } catch (error) {
      abandon(checked.stream)
      throw error
    }
  }

  /** Sends to one what the options say, or a file that is open. */
  async #send ({ signal, onProgress, data, stream, maxBytes, ...rest }, shared) {
    let reported = null
    const report = (progress) => {
      reported = progress.bytesSent
      this.#call(onProgress, progress)
    }
    const whole = size => ({ bytesSent: size, totalBytes: size, phase: 'verifying', bytes: size, rate: null, eta: null })
    const give = (cancel, file) => this.#native.send(rest, cancel, onProgress && report, file)
    const start = cancel => data === undefined && stream === undefined
      ? give(cancel, shared)
      : this.#open({ data, stream, maxBytes, ...rest }, cancel, signal, file => give(cancel, file))
    const result = await traced('send', { node: this, options: rest }, () => this.#run(start, signal))
    // Of a file that had arrived before, no byte was sent.
    if (onProgress && reported !== result.size) report(whole(result.size))
    return result
  }

  /** Sends to several at once, to each by a transfer of its own; resolves with what became of each, in their order. */
  async #sendToAll (recipientIds, { onProgress, onResult, ...options }) {
    const { data, stream, maxBytes, ...common } = options
    const unique = new Set(recipientIds)
    const sent = new Map()
    let bytesSent = 0
    const reportOf = recipientId => (progress) => {
      bytesSent += progress.bytesSent - (sent.get(recipientId) ?? 0)
      sent.set(recipientId, progress.bytesSent)
      onProgress({ ...progress, recipientId, all: { bytesSent, totalBytes: progress.totalBytes * unique.size } })
    }
    const send = async (recipientId, file) => {
      const result = await this.#send({ ...common, recipientId, onProgress: onProgress && reportOf(recipientId) }, file).then(
        result => ({ recipientId, ...result }),
        error => ({ recipientId, success: false, error })
      )
      if (onResult) this.#call(onResult, result)
      return [recipientId, result]
    }
    const sendAll = file => Promise.all(Array.from(unique, recipientId => send(recipientId, file)))
    const results = new Map(await this.#run(cancel => this.#open(options, cancel, common.signal, sendAll), common.signal))
    return recipientIds.map(recipientId => results.get(recipientId))
  }

  /** Gives `use` what is sent, open until that has ended. Bytes are copied at once, before they change. */
  async #open ({ data, stream, maxBytes, ...options }, cancel, signal, use) {
    const asked = Object.fromEntries(CONTENT.filter(name => options[name] !== undefined).map(name => [name, options[name]]))
    const streamed = isBlob(data) ? data.stream() : stream
    let kept
    if (streamed !== undefined) {
      // A Blob is no longer than it says.
      kept = await spool(streamed, { fileName: options.fileName, maxBytes: isBlob(data) ? data.size + 1 : maxBytes }, ends(signal, this.#ending.signal))
      this.#assertAlive()
    }
    const file = await this.#native.open(asked, cancel, streamed === undefined ? data : undefined, kept)
    try {
      return await use(file)
    } finally {
      file.close()
    }
  }

  watch (options) {
    const checked = checkOptions('watch', options, WATCH_OPTIONS)
    this.#assertAlive()
    this.#watch(checked)
    this.#stayAlive({ watching: true })
  }

  /** The offers on a channel one after another, for `for await`. */
  offers (options) {
    const { channel, signal } = checkOptions('offers', options, OFFERS_OPTIONS)
    this.#assertAlive()
    const named = channel ?? this.#native.channel()
    return this.#offers.iterate(named, signal, () => {
      // A watch lasts as long as its node does, and one is enough.
      if (this.#iterated.has(named)) return
      this.#watch({ channel: named })
      this.#iterated.add(named)
    })
  }

  /** What is under way now. */
  transfers () {
    this.#assertAlive()
    return this.#transfers.list(this.#native.running())
  }

  get publicKey () {
    if (this.#publicKey === undefined) {
      this.#assertAlive()
      try {
        this.#publicKey = this.#native.publicKey()
      } catch (error) {
        throw wrap(error)
      }
    }
    return this.#publicKey
  }

  async status (id, options) {
    return this.#ofTransfer('status', id, options)
  }

  /** Goes on with the offers that earlier processes of this agent left open; resolves with what became of each. */
  async resumeOffers (options) {
    const { signal } = checkOptions('resumeOffers', options, CALL_OPTIONS)
    const offers = await this.#run(cancel => this.#native.resumeOffers(cancel), signal)
    return offers.map(({ error, ...offer }) => error ? { ...offer, success: false, error: new AtsP2pError(error.message, error) } : offer)
  }

  async cancel (id, options) {
    return this.#ofTransfer('cancel', id, options)
  }

  async suspend () {
    await this.#run(() => this.#native.suspend())
  }

  async resume () {
    await this.#run(() => this.#native.resume())
  }

  destroy () {
    this.#ending.abort()
    this.#destroyed ??= this.#end()
    this.#offers.end()
    this.#stayAlive({ watching: false, waiting: false })
    return this.#destroyed
  }

  async #end () {
    try {
      await this.#native.destroy()
      await eventsCaughtUp()
    } catch (error) {
      throw wrap(error)
    } finally {
      // The addon holds the function that dispatches its events, and with it this object: a circle that no garbage
      // collector sees.
      this.#native = null
    }
  }

  async [Symbol.asyncDispose] () {
    await this.destroy()
  }

  /**
   * What becomes of a rejection that escapes an async listener. The failure of a transfer was told by
   * `transfer_failed` already, so leaving `accept()` uncaught is no fault; anything else is.
   */
  [captureRejectionSymbol] (error) {
    if (!this.#reported.has(error)) this.#fail(error)
  }

  #dispatch ({ name, payload: told }) {
    const payload = withMetadata(withBytes(told))
    if (name === 'warning') return process.emitWarning(payload.message, 'AtsP2pWarning', payload.code)
    if (name === 'error') return this.#fail(new AtsP2pError(payload.message, payload))
    this.#transfers.see(name, payload)
    this.#unattended.see(name, payload)
    if (name === 'file') return this.#offered(payload)
    publish(this, name, payload)
    if (name === 'transfer_failed' && this.#calls > 0) this.#failed.add(payload.transferId)
    this.#call(() => this.emit(name, payload))
  }

  /** Calls into the owner's code; what it throws is the node's `error`, and unwinds neither the addon nor a call. */
  #call (callback, ...args) {
    try {
      callback(...args)
    } catch (error) {
      queueMicrotask(() => this.#fail(error))
    }
  }

  /** Something is wrong with the node or with its owner's code. Who iterates and hears no `error` is thrown it. */
  #fail (error) {
    if (this.listenerCount('error') > 0 || !this.#offers.fail(error)) this.emit('error', error)
  }

  #watch ({ shouldAccept = this.#shouldAccept, ...options }) {
    const tag = this.#watches.length
    this.#watches.push({ shouldAccept, dir: options.saveDir, existing: options.existing })
    try {
      this.#native.watch({ ...options, tag, asks: shouldAccept !== undefined })
    } catch (error) {
      throw wrap(error)
    }
  }

  /** The addon's events alone keep no process alive; who watches or waits wants to be. */
  #stayAlive ({ watching = this.#watching, waiting = this.#waiting }) {
    this.#watching = watching
    this.#waiting = waiting
    if (!watching && !waiting) {
      clearInterval(this.#alive)
      this.#alive = null
    } else {
      this.#alive ??= setInterval(() => {}, LONGEST_TIMER_MS)
    }
  }

  #offered ({ offer: handle, watch, ...payload }) {
    const { shouldAccept, ...place } = this.#watches[watch]
    if (shouldAccept) return this.#decide(shouldAccept, place, handle, payload)
    this.#pass(handle, payload)
  }

  /** Has the owner's function decide about an offer. Others wait for nothing meanwhile. */
  async #decide (shouldAccept, place, handle, payload) {
    const verdict = await this.#ask(shouldAccept, payload)
    // It may have been withdrawn meanwhile.
    if (!this.#native?.isOpen(handle)) return
    if (verdict === true && place.dir === undefined) return this.#pass(handle, payload)
    try {
      if (verdict === true) this.#native.take(handle, place)
      else await this.#native.reject(handle, verdict || undefined)
    } catch {
      // The offer is over, or the service is not reached and it ends by itself.
    }
  }

  /** True, or why not: for the sender, who is told nothing of what went wrong here. */
  async #ask (shouldAccept, payload) {
    try {
      const verdict = await shouldAccept({ ...payload })
      if (typeof verdict === 'boolean' || typeof verdict === 'string') return verdict
      throw invalid('shouldAccept must give true, false or a reason', verdict)
    } catch (error) {
      if (!this.#destroyed) this.#fail(error)
      return false
    }
  }

  /** Hands an offer to the owner. */
  #pass (handle, payload) {
    publish(this, 'file', payload)
    const offer = this.#offer(handle, payload)
    this.#offers.put(payload.channel, handle, offer)
    this.#call(() => this.emit('file', offer))
  }

  #offer (offer, payload) {
    return {
      ...payload,
      accept: async (...given) => {
        const { signal, stream, buffer, maxBytes, ...rest } = checkTarget(given)
        if (stream || buffer) return this.#receive(offer, payload, { ...rest, signal, buffer, maxBytes })
        const start = async cancel => withBytes(await this.#native.accept(offer, rest, cancel))
        return this.#unattended.attend(payload.transferId, () =>
          traced('receive', { node: this, offer: payload, options: rest }, () => this.#run(start, signal)))
      },
      reject: async (reason) => {
        if (reason !== undefined && typeof reason !== 'string') throw invalid('reject: the reason must be a string', reason)
        return this.#run(() => this.#native.reject(offer, reason))
      }
    }
  }

  /** Takes an offer into memory: as a stream, or all of it. */
  async #receive (offer, payload, { signal, buffer, maxBytes, ...rest }) {
    const { fileName, fileSize, transferId } = payload
    if (buffer && fileSize > maxBytes) {
      throw new AtsP2pError(`${fileName} has ${fileSize} bytes, more than the ${maxBytes} that are taken into memory: maxBytes allows more, and the offer still stands`, { code: 'ATS_P2P_TOO_LARGE', transferId, step: 'offer' })
    }
    const bytes = buffer && allocate(fileSize, { fileName, transferId })
    const outlet = new addon.NativeOutlet()
    const leaving = new AbortController()
    const start = (cancel) => {
      const off = onAbort(leaving.signal, () => cancel.cancel())
      return this.#native.accept(offer, rest, cancel, outlet).finally(off)
    }
    const result = this.#unattended.attend(transferId, () =>
      traced('receive', { node: this, offer: payload, options: rest }, () => this.#run(start, signal)))
    const stream = await receive(outlet, result, () => leaving.abort())
    return buffer ? stream.collect(bytes) : stream
  }

  async #ofTransfer (name, id, options) {
    if (!isTaskId(id)) throw invalid(`${name}: the id of a transfer or a task is needed`, id)
    const { signal } = checkOptions(name, options, CALL_OPTIONS)
    return this.#run(cancel => this.#native[name](String(id), cancel), signal)
  }

  /** Runs one native call, and has its events come before what it comes to. */
  async #run (start, signal) {
    this.#assertAlive()
    this.#calls++
    try {
      return await call(start, signal).finally(eventsCaughtUp)
    } catch (error) {
      if (this.#failed.has(error.transferId)) this.#reported.add(error)
      throw error
    } finally {
      if (--this.#calls === 0) this.#failed.clear()
    }
  }

  #assertAlive () {
    if (this.#destroyed) throw new AtsP2pError('The node was destroyed', { code: 'ATS_P2P_DESTROYED' })
  }
}

/** What the addon tells of a file, the bytes of its path as such, where these are no text. */
function withBytes ({ filePathBytes, ...told }) {
  return filePathBytes === undefined ? told : { ...told, filePathBytes: Buffer.from(filePathBytes, 'hex') }
}

/** What the addon tells of a file, what its sender said of it no longer as text. */
function withMetadata (told) {
  // Of the shape that Rust has checked: it is JSON, of bounded length and depth.
  return typeof told.metadata === 'string' ? { ...told, metadata: JSON.parse(told.metadata) } : told
}

/**
 * Events and results come by different queues. When a result arrives, the queue of events may have been looked
 * at in this turn of the loop already, before they were put there; so it takes the end of this turn and of the
 * next until all that came before the result has been emitted.
 */
async function eventsCaughtUp () {
  await turn()
  await turn()
}

module.exports = { Node }
