'use strict'

// A node: the addon's, with functions and events for its owner.

const { EventEmitter, captureRejectionSymbol } = require('node:events')
const { setImmediate: turn } = require('node:timers/promises')
const addon = require('../addon')
const { LONGEST_TIMER_MS } = require('./checks')
const { AtsP2pError, aborted, invalid, wrap } = require('./error')
const { SEND_OPTIONS, WATCH_OPTIONS, checkOptions, checkTarget } = require('./options')
const { onAbort } = require('./signals')

/** One agent's end: sends files, watches for offers, says what happens as events. */
class Node extends EventEmitter {
  #native
  #destroyed = null
  #handles = 0
  #alive = null
  // Calls that have not settled, and the transfers that failed meanwhile: see [captureRejectionSymbol].
  #calls = 0
  #failed = new Set()
  #reported = new WeakSet()

  constructor (options) {
    super({ captureRejections: true })
    try {
      this.#native = addon.NativeNode.create(options, event => this.#dispatch(event))
    } catch (error) {
      throw wrap(error)
    }
  }

  async send (options) {
    const { signal, onProgress, ...rest } = checkOptions('send', options, SEND_OPTIONS, ['filePath', 'recipientId'])
    let reported = null
    const report = (progress) => {
      reported = progress.bytesSent
      this.#call(onProgress, progress)
    }
    const whole = size => ({ bytesSent: size, totalBytes: size, phase: 'verifying', bytes: size, rate: null, eta: null })
    const result = await this.#run(handle => this.#native.send({ ...rest, handle }, onProgress && report), signal)
    // Of a file that had arrived before, no byte was sent.
    if (onProgress && reported !== result.size) report(whole(result.size))
    return result
  }

  watch (options) {
    const checked = checkOptions('watch', options, WATCH_OPTIONS)
    this.#assertAlive()
    try {
      this.#native.watch(checked)
    } catch (error) {
      throw wrap(error)
    }
    // The addon's events alone keep no process alive; who watches wants to be.
    this.#alive ??= setInterval(() => {}, LONGEST_TIMER_MS)
  }

  async status (id) {
    if (typeof id !== 'string' && typeof id !== 'number') throw invalid('status: the id of a transfer or a task is needed', id)
    return this.#run(() => this.#native.status(String(id)))
  }

  /** Goes on with the offers that earlier processes of this agent left open; resolves with what became of each. */
  async resumeOffers () {
    const offers = await this.#run(() => this.#native.resumeOffers())
    return offers.map(({ error, ...offer }) => error ? { ...offer, success: false, error: new AtsP2pError(error.message, error) } : offer)
  }

  async cancel (id) {
    if (typeof id !== 'string' && typeof id !== 'number') throw invalid('cancel: the id of a transfer or a task is needed', id)
    return this.#run(() => this.#native.cancel(String(id)))
  }

  async suspend () {
    await this.#run(() => this.#native.suspend())
  }

  async resume () {
    await this.#run(() => this.#native.resume())
  }

  destroy () {
    clearInterval(this.#alive)
    this.#destroyed ??= this.#end()
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
    if (!this.#reported.has(error)) this.emit('error', error)
  }

  #dispatch ({ name, payload }) {
    if (name === 'warning') return process.emitWarning(payload.message, 'AtsP2pWarning', payload.code)
    if (name === 'error') return this.emit('error', new AtsP2pError(payload.message, payload))
    if (name === 'transfer_failed' && this.#calls > 0) this.#failed.add(payload.transferId)
    this.#call(() => this.emit(name, name === 'file' ? this.#offer(payload) : payload))
  }

  /** Calls into the owner's code; what it throws is the node's `error`, and never unwinds the addon. */
  #call (callback, ...args) {
    try {
      callback(...args)
    } catch (error) {
      this.emit('error', error)
    }
  }

  #offer ({ offer, ...payload }) {
    return {
      ...payload,
      accept: async (target, options) => {
        const { signal, ...rest } = checkTarget(target, options)
        return this.#run(handle => this.#native.accept(offer, { ...rest, handle }), signal)
      },
      reject: async (reason) => {
        if (reason !== undefined && typeof reason !== 'string') throw invalid('reject: the reason must be a string', reason)
        return this.#run(() => this.#native.reject(offer, reason))
      }
    }
  }

  /** Runs one native call: aborts it by `signal`, and gives its error class and stack. */
  async #run (start, signal) {
    this.#assertAlive()
    if (signal?.aborted) throw aborted(signal)
    const handle = ++this.#handles
    this.#calls++
    const off = onAbort(signal, () => this.#native?.abort(handle))
    try {
      const result = await start(handle)
      await eventsCaughtUp()
      return result
    } catch (cause) {
      await eventsCaughtUp()
      const error = wrap(cause, signal)
      if (this.#failed.has(error.transferId)) this.#reported.add(error)
      throw error
    } finally {
      off()
      if (--this.#calls === 0) this.#failed.clear()
    }
  }

  #assertAlive () {
    if (this.#destroyed) throw new AtsP2pError('The node was destroyed', { code: 'ATS_P2P_DESTROYED' })
  }
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
