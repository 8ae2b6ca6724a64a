'use strict'

// The public API. Everything that takes time happens in the native addon; here arguments are checked,
// errors get their class and events their functions.

const { EventEmitter, captureRejectionSymbol } = require('node:events')
const path = require('node:path')
const { setImmediate: turn } = require('node:timers/promises')
const { fileURLToPath } = require('node:url')
const addon = require('./binding.js')
const { version } = require('./package.json')

// The longest a timer can be; one that never needs to fire.
const LONGEST_TIMER_MS = 2 ** 31 - 1

// Most files that a node receives at once: each has a connection, an open file and a thread.
const MAX_CONCURRENT = 256

/** Why a call or a transfer failed. Match on `code`; the message is for people. */
class AtsP2pError extends Error {
  constructor (message, { code, transferId, taskId, step, retryable = false, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    if (transferId != null) this.transferId = transferId
    if (taskId != null) this.taskId = taskId
    if (step != null) this.step = step
    this.retryable = retryable
  }
}
Object.defineProperty(AtsP2pError.prototype, 'name', { value: 'AtsP2pError', configurable: true, writable: true })

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
    const result = await this.#run(handle => this.#native.send({ ...rest, handle }, onProgress && report), signal)
    // The last bytes may have gone between two reports; an empty file has none.
    if (onProgress && reported !== result.size) report({ bytesSent: result.size, totalBytes: result.size })
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
    const abort = () => this.#native?.abort(handle)
    this.#calls++
    signal?.addEventListener('abort', abort)
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
      signal?.removeEventListener('abort', abort)
      if (--this.#calls === 0) this.#failed.clear()
    }
  }

  #assertAlive () {
    if (this.#destroyed) throw new AtsP2pError('The node was destroyed', { code: 'ATS_P2P_DESTROYED' })
  }
}

/** What runs in this process, and keeps it alive, until it is closed. */
class Running {
  #native
  #closed = null
  #alive = setInterval(() => {}, LONGEST_TIMER_MS)

  constructor (native) {
    this.#native = native
  }

  close () {
    clearInterval(this.#alive)
    this.#closed ??= this.#native.close().catch((error) => { throw wrap(error) })
    return this.#closed
  }

  async [Symbol.asyncDispose] () {
    await this.close()
  }
}

/** A task service and a private DHT in this process. */
class Hub extends Running {
  constructor (native) {
    super(native)
    this.urls = native.urls()
    this.url = this.urls[0]
    this.bootstrap = native.bootstrap()
    this.relay = native.relay() ?? null
  }
}

/** A node of the DHT in this process. */
class DhtNode extends Running {
  #native

  constructor (native) {
    super(native)
    this.#native = native
    this.address = native.address()
    this.reachable = native.reachable()
    this.nodes = native.nodes()
  }

  reached () {
    return this.#native.reached()
  }
}

async function createNode (options) {
  const { resume, ...checked } = checkOptions('createNode', options, { ...NODE_OPTIONS, resume: boolean })
  const node = new Node(checked)
  // What fails is told by `transfer_failed`.
  if (resume) node.resumeOffers().catch(() => {})
  return node
}

async function startHub (options) {
  const checked = checkOptions('startHub', options, HUB_OPTIONS)
  try {
    return new Hub(await addon.NativeHub.start(checked))
  } catch (error) {
    throw wrap(error)
  }
}

/** Copies a hub's database to a file, while the hub runs or not. */
async function backupHub (file, options) {
  const checked = checkOptions('backupHub', options, { ...HUB_DATA_OPTIONS, replace: boolean })
  try {
    await addon.backupHub(localPath(file, 'backupHub: the file'), checked)
  } catch (error) {
    throw wrap(error)
  }
}

async function startDht (options) {
  const checked = checkOptions('startDht', options, DHT_OPTIONS)
  try {
    return new DhtNode(await addon.NativeDht.start(checked))
  } catch (error) {
    throw wrap(error)
  }
}

/** Looks at all that transfers need; resolves with what was found, also where much is wrong. */
async function doctor (options) {
  const checked = checkOptions('doctor', options, { ...NODE_OPTIONS, peer: publicKey })
  try {
    return await addon.diagnose(checked)
  } catch (error) {
    throw wrap(error)
  }
}

/** A place on the network that the doctor of another machine finds by its key. */
class Waiting extends Running {
  #native

  constructor (native) {
    super(native)
    this.#native = native
    this.key = native.key()
  }

  async * [Symbol.asyncIterator] () {
    for (let peer = await this.#native.next(); peer; peer = await this.#native.next()) yield peer
  }
}

async function waitForDoctor (options) {
  const checked = checkOptions('waitForDoctor', options, NODE_OPTIONS)
  try {
    return new Waiting(await addon.NativeWaiting.start(checked))
  } catch (error) {
    throw wrap(error)
  }
}

/** Who this user's nodes are to others. */
const identity = {
  show: options => told('identity.show', options, {}, checked => addon.showIdentity(checked)),

  export: options => told('identity.export', options, {}, checked => addon.exportSeed(checked)),

  import: (seed, options) => told('identity.import', options, { replace: boolean }, ({ replace = false, ...checked }) =>
    addon.importSeed(checked, text(seed, 'identity.import: the seed'), replace)),

  create: options => told('identity.create', options, { replace: boolean }, ({ replace = false, ...checked }) =>
    addon.createSeed(checked, replace)),

  rotate: options => told('identity.rotate', options, {}, checked => addon.rotateSeed(checked))
}

/** Whom this user's nodes know. */
const peers = {
  list: options => told('peers.list', options, {}, checked => addon.listPeers(checked)),

  accept: (actorId, identity, options) => told('peers.accept', options, {}, checked =>
    addon.acceptPeer(checked, text(actorId, 'peers.accept: the actor id'), identity == null ? null : publicKey(identity, 'peers.accept: the identity'))),

  forget: (actorId, options) => told('peers.forget', options, {}, checked =>
    addon.forgetPeer(checked, text(actorId, 'peers.forget: the actor id')))
}

/** Who may use a hub of this machine from elsewhere. */
const hubKeys = {
  create: (actorId, options) => ofHub('hubKeys.create', options, GRANT_OPTIONS, checked =>
    addon.createHubKey(checked, text(actorId, 'hubKeys.create: the actor id'))),

  list: options => ofHub('hubKeys.list', options, {}, checked => addon.listHubKeys(checked)),

  revoke: (id, options) => ofHub('hubKeys.revoke', options, {}, checked =>
    addon.revokeHubKey(checked, count(id, 'hubKeys.revoke: the id'))),

  invite: (actorId, options) => ofHub('hubKeys.invite', options, GRANT_OPTIONS, checked =>
    addon.inviteToHub(checked, text(actorId, 'hubKeys.invite: the actor id')))
}

/** Takes a hub's invitation, and keeps the key that it gives in the settings of this user. */
async function join (hubUrl, invitation, options) {
  const checked = checkOptions('join', options, JOIN_OPTIONS)
  try {
    return await addon.joinHub(url(hubUrl, 'join: the URL'), text(invitation, 'join: the invitation').trim(), checked)
  } catch (error) {
    throw wrap(error)
  }
}

/** What the addon tells of a hub's keys. */
async function ofHub (call, options, table, ask) {
  const checked = checkOptions(call, options, { ...HUB_DATA_OPTIONS, ...table })
  try {
    return await ask(checked)
  } catch (error) {
    throw wrap(error)
  }
}

/** Checks what both ends of a transfer signed, and a file against it. */
async function verify (options) {
  return told('verify', options, VERIFY_OPTIONS, (checked) => {
    if ((checked.id === undefined) === (checked.receipt === undefined)) {
      throw invalid('verify: the id of a transfer or a task, or the path of a receipt is needed')
    }
    return addon.verify(checked)
  })
}

/** What the addon tells to a node's options, and more of `table`. */
async function told (call, options, table, ask) {
  const checked = checkOptions(call, options, { ...NODE_OPTIONS, ...table })
  try {
    return await ask(checked)
  } catch (error) {
    throw wrap(error)
  }
}

module.exports = { createNode, startHub, backupHub, startDht, doctor, waitForDoctor, identity, peers, hubKeys, join, verify, AtsP2pError, version }

// What each option must be. A check returns the value in the form that the addon takes.

const NODE_OPTIONS = {
  atsUrl: url,
  organization: text,
  project: text,
  channel: text,
  actorType: text,
  actorId: text,
  actorName: text,
  apiKey: text,
  ca: localPath,
  insecure: boolean,
  allowedPeers: texts,
  requireVerified: boolean,
  maxFileSize: bytes,
  timeout: milliseconds,
  bootstrap: addresses,
  relayThrough: text,
  tunnel: tunnelPlace,
  home: localPath,
  topicPrefix: string,
  maxOfferAge: milliseconds,
  maxPartialAge: milliseconds,
  maxConcurrent: places,
  anyClaimant: boolean,
  identity: seedPath,
  keepReceipts: number
}

const VERIFY_OPTIONS = { id: taskId, receipt: localPath, file: localPath }

const SEND_OPTIONS = {
  filePath: localPath,
  recipientId: text,
  channel: text,
  timeout: milliseconds,
  onProgress: callback,
  signal: abortSignal
}

const WATCH_OPTIONS = { channel: text, saveDir: localPath }

const ACCEPT_OPTIONS = { saveDir: localPath, overwrite: boolean, signal: abortSignal }

const HUB_DATA_OPTIONS = { data: localPath, database: text, databaseFile: localPath }

const HUB_OPTIONS = {
  listen: text,
  ...HUB_DATA_OPTIONS,
  publicUrl: text,
  allowedHosts: texts,
  trustedProxies: texts,
  open: boolean,
  trust: texts,
  insecure: boolean,
  cert: localPath,
  keyFile: localPath,
  requestRate: count,
  keep: retention,
  dailyQuota: count,
  relay: text,
  relayPairs: count,
  relayRate: count,
  relayBytes: count,
  tunnel: text,
  tunnelUrl: text
}

const GRANT_OPTIONS = { admin: boolean, expiresIn: count }

const JOIN_OPTIONS = { ca: localPath, insecure: boolean, replace: boolean }

const DHT_OPTIONS = { host: text, port, bootstrap: addresses }

/** The options that are set and known, checked; unknown ones are left out, as the original left them. */
function checkOptions (call, options = {}, table, required = []) {
  if (options === null || typeof options !== 'object') throw invalid(`${call}: the options must be an object`, options)
  const checked = {}
  for (const [name, check] of Object.entries(table)) {
    const value = options[name]
    if (value !== undefined && value !== null) checked[name] = check(value, `${call}: ${name}`)
    else if (required.includes(name)) throw invalid(`${call}: ${name} is required`, value)
    if (checked[name] === undefined) delete checked[name]
  }
  return checked
}

/** `accept(path, options)` or `accept({ saveDir, ...options })`. */
function checkTarget (target, options) {
  if (typeof target === 'string' || target instanceof URL) {
    return { ...checkOptions('accept', options, { ...ACCEPT_OPTIONS, saveDir: unwanted }), path: localPath(target, 'accept: path') }
  }
  if (target === undefined || target === null) throw invalid('accept: a path to save to is required', target)
  const { saveDir, ...rest } = checkOptions('accept', target, ACCEPT_OPTIONS, ['saveDir'])
  return { ...rest, dir: saveDir }
}

function string (value, what) {
  if (typeof value !== 'string') throw invalid(`${what} must be a string`, value)
  return value
}

function number (value, what) {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(`${what} must be a whole number from 0 on`, value)
  return value
}

function taskId (value, what) {
  return typeof value === 'number' ? String(value) : text(value, what)
}

function count (value, what) {
  if (!Number.isSafeInteger(value) || value < 1) throw invalid(`${what} must be a positive whole number`, value)
  return value
}

function places (value, what) {
  if (!Number.isInteger(value) || value < 1 || value > MAX_CONCURRENT) {
    throw invalid(`${what} must be a whole number from 1 to ${MAX_CONCURRENT}`, value)
  }
  return value
}

function text (value, what) {
  if (string(value, what).trim() === '') throw invalid(`${what} must not be empty`)
  return value
}

function texts (value, what) {
  if (!Array.isArray(value)) throw invalid(`${what} must be an array of strings`, value)
  return value.map(item => text(item, `each of ${what}`))
}

function addresses (value, what) {
  return texts(value, what).map((address) => {
    const port = Number(/:(\d{1,5})$/.exec(address)?.[1])
    if (!(port > 0 && port < 65536)) throw invalid(`each of ${what} must be host:port`, address)
    return address
  })
}

function publicKey (value, what) {
  if (!/^[0-9a-fA-F]{64}$/.test(string(value, what))) throw invalid(`${what} must be a key of 64 hex digits`, value)
  return value
}

function url (value, what) {
  const parsed = URL.canParse(String(value)) ? new URL(String(value)) : null
  if (!parsed || !/^https?:$/.test(parsed.protocol)) throw invalid(`${what} must be an http or https URL`, value)
  return String(value)
}

function localPath (value, what) {
  if (value instanceof URL) {
    if (value.protocol !== 'file:') throw invalid(`${what} must be a path or a file: URL`, value)
    return fileURLToPath(value)
  }
  if (text(value, what).includes('\0')) throw invalid(`${what} must not hold a NUL character`)
  // A trailing separator says "a folder", which resolve() would drop.
  return /[/\\]$/.test(value) ? path.join(path.resolve(value), path.sep) : path.resolve(value)
}

/** Where a seed is; false for no identity, true for the one in the home. */
function seedPath (value, what) {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && !(value instanceof URL)) throw invalid(`${what} must be the path of a seed, or false`, value)
  return localPath(value, what)
}

function tunnelPlace (value, what) {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && !(value instanceof URL)) throw invalid(`${what} must be the address of a tunnel, or false`, value)
  return String(value)
}

function bytes (value, what) {
  if (value === Infinity) return undefined
  if (!Number.isSafeInteger(value) || value <= 0) throw invalid(`${what} must be a positive whole number of bytes`, value)
  return value
}

function milliseconds (value, what) {
  if (typeof value !== 'number' || !(value > 0 && value <= LONGEST_TIMER_MS)) {
    throw invalid(`${what} must be a number of milliseconds above 0 and up to ${LONGEST_TIMER_MS}`, value)
  }
  return Math.ceil(value)
}

/** How long a hub keeps what is over; the addon takes 0 for ever. */
function retention (value, what) {
  if (value === Infinity) return 0
  if (typeof value !== 'number' || !(value > 0 && value <= Number.MAX_SAFE_INTEGER)) {
    throw invalid(`${what} must be a number of milliseconds above 0, or Infinity`, value)
  }
  return Math.ceil(value)
}

function port (value, what) {
  if (!Number.isInteger(value) || value < 0 || value > 65535) throw invalid(`${what} must be a whole number from 0 to 65535`, value)
  return value
}

function boolean (value, what) {
  if (typeof value !== 'boolean') throw invalid(`${what} must be true or false`, value)
  return value
}

function callback (value, what) {
  if (typeof value !== 'function') throw invalid(`${what} must be a function`, value)
  return value
}

function abortSignal (value, what) {
  if (!(value instanceof AbortSignal)) throw invalid(`${what} must be an AbortSignal`, value)
  return value
}

function unwanted (value, what) {
  throw invalid(`${what} does not go with a path`)
}

function invalid (message, value) {
  const got = value === undefined ? '' : `, not ${value === null ? 'null' : describe(value)}`
  return Object.assign(new TypeError(message + got), { code: 'ATS_P2P_INVALID_ARGUMENT', retryable: false })
}

function describe (value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`
}

function aborted (signal) {
  return new AtsP2pError('The caller aborted', { code: 'ATS_P2P_ABORTED', cause: signal.reason })
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

/** An error of the addon, which has no stack, as one that has. */
function wrap (error, signal) {
  if (!error?.code) return error
  const cause = error.code === 'ATS_P2P_ABORTED' && signal?.aborted ? signal.reason : error
  return new AtsP2pError(error.message, { ...error, code: error.code, cause })
}
