'use strict'

// What is remembered on disk of a transfer that goes on in a process of its own: who that is, how far it is, and how it
// ended. One process writes it, any other of this user reads it.

const fs = require('node:fs')
const path = require('node:path')
const { exitCode } = require('../exit-codes')
const { quoted } = require('../output')
const { sentText } = require('../sending')
const { homeFolder, privateFolder } = require('./home')

const FOLDER = 'transfers'
const SUFFIX = '.detached'

// How often it is looked whether another process asks to end a transfer.
const CANCEL_POLL_MS = 200

// How often the file may change while nothing but progress does.
const WRITE_MS = 250

// What is kept of transfers that are over: for so long, and of so many.
const KEEP_MS = 7 * 24 * 3600 * 1000
const KEEP = 100

// Ids name files here only if they are of the form that this package gives them.
const TRANSFER_ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/

/** The state of a transfer that this process runs. The transfer is worth more than what is remembered of it: it goes on where nothing can be written. */
class OwnState {
  #file
  #cancelFile
  #facts
  #written = 0

  constructor (facts) {
    this.#file = stateFile(facts.transferId)
    this.#cancelFile = cancelFile(facts.transferId)
    this.#facts = { ...facts, pid: process.pid, started: startOf(process.pid), progress: { phase: 'waiting', bytes: 0, totalBytes: facts.fileSize, rate: null, eta: null }, ended: null }
    removeIfPossible(this.#cancelFile)
    this.#write()
  }

  progress ({ phase = 'transferring', bytes, totalBytes, rate = null, eta = null }) {
    const isNew = phase !== this.#facts.progress.phase
    this.#facts.progress = { phase, bytes, totalBytes, rate, eta }
    if (isNew || performance.now() - this.#written >= WRITE_MS) this.#write()
  }

  /** `{ exitCode, text, event, facts }`: what the process would have ended with, and said last. */
  end (ended) {
    this.#facts.ended = ended
    this.#write()
    removeIfPossible(this.#cancelFile)
  }

  /** Whether another process asks to end the transfer. */
  isCancelled () {
    return fs.existsSync(this.#cancelFile)
  }

  #write () {
    this.#written = performance.now()
    const temporary = `${this.#file}.${process.pid}.tmp`
    try {
      privateFolder(FOLDER)
      fs.writeFileSync(temporary, JSON.stringify(this.#facts), { mode: 0o600 })
      fs.renameSync(temporary, this.#file)
    } catch {
      // The next change tries again.
    }
  }
}

/** The states of transfers that this process goes on with in place of one that died; of others nothing is remembered. */
class TakenOver {
  #node
  #states = new Map()
  // What is being ended for another process, and how that went as far as it is known.
  #ending = new Map()
  #poll = null

  constructor (node) {
    this.#node = node
    node.on('offer_resumed', offer => this.#begin(offer))
    node.on('transfer_progress', progress => this.#states.get(progress.transferId)?.progress(progress))
    node.on('transfer_complete', ({ transferId, taskId, fileName, peerId, fileHash: hash }) => {
      this.#end(transferId, { exitCode: 0, text: sentText(quoted(fileName), peerId, hash), event: 'transfer_complete', facts: { transferId, taskId, success: true, hash } })
    })
    node.on('transfer_failed', ({ transferId, taskId, code, reason, step, retryable }) => {
      const facts = { code, message: reason, transferId, taskId, step, retryable }
      this.#end(transferId, { exitCode: exitCode({ code }), text: `${reason} (${code})`, event: 'failed', facts })
    })
  }

  #begin ({ transferId, taskId, fileName, fileSize, recipientId }) {
    const before = readState(transferId)
    if (before === null || isRunning(before)) return
    this.#states.set(transferId, new OwnState({ transferId, taskId, fileName, fileSize, recipientId, log: before.log, settings: before.settings }))
    this.#poll ??= setInterval(() => this.#cancelAsked(), CANCEL_POLL_MS).unref()
  }

  #end (transferId, ended) {
    // Who asked for its end goes to the service next, which has to know of it by then.
    if (this.#ending.has(transferId)) return this.#ending.set(transferId, ended)
    this.#states.get(transferId)?.end(ended)
    this.#states.delete(transferId)
  }

  /** Ends what another process asks to end. */
  #cancelAsked () {
    for (const [transferId, state] of this.#states) {
      if (this.#ending.has(transferId) || !state.isCancelled()) continue
      this.#ending.set(transferId, null)
      // Where the service is not reached, it is tried again.
      this.#node.cancel(transferId).catch(() => {}).finally(() => {
        const ended = this.#ending.get(transferId)
        this.#ending.delete(transferId)
        if (ended) this.#end(transferId, ended)
      })
    }
  }
}

/** Removes a file, where that can be done. */
function removeIfPossible (file) {
  try {
    fs.rmSync(file, { force: true })
  } catch {
    // It is in nobody's way.
  }
}

/** What is remembered of a transfer, or null. */
function readState (transferId) {
  if (!TRANSFER_ID.test(transferId)) return null
  return readFile(stateFile(transferId))
}

/** All that is remembered, the newest first. */
function readStates () {
  return stateFiles().map(({ file }) => readFile(file)).filter(state => state !== null)
}

/** Whether the process that runs a transfer is there. */
function isRunning ({ pid, started, ended }) {
  if (ended !== null) return false
  try {
    process.kill(pid, 0)
  } catch (error) {
    if (error.code !== 'EPERM') return false
  }
  // Another process may have taken its number since.
  return startOf(pid) === started
}

/** Asks the process that runs a transfer to end it. */
function requestCancel ({ transferId }) {
  fs.writeFileSync(cancelFile(transferId), '', { mode: 0o600 })
}

/** Removes what is too old, or too much, of transfers that are over, and the logs of those that nobody knows. */
function sweep (now = Date.now()) {
  const over = stateFiles().filter(({ file }) => {
    const state = readFile(file)
    return state === null || !isRunning(state)
  })
  const surplus = over.filter(({ modified }, at) => at >= KEEP || now - modified > KEEP_MS)
  for (const { file, transferId } of surplus) {
    fs.rmSync(logFile(transferId), { force: true })
    fs.rmSync(cancelFile(transferId), { force: true })
    fs.rmSync(file, { force: true })
  }
  for (const { file, modified } of filesIn('logs')) {
    const known = fs.existsSync(stateFile(path.basename(file, '.log')))
    if (!known && now - modified > KEEP_MS) fs.rmSync(file, { force: true })
  }
}

/** Where the log of a transfer is. */
function logFile (transferId) {
  return path.join(homeFolder(), 'logs', `${transferId}.log`)
}

/**
 * When a process began, in the system's own unit, where it is told; null where it is not. A process that is over and
 * that nobody has asked for yet began never.
 */
function startOf (pid) {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'utf8')
    // Behind the name, which may hold anything: the state is the first field, the start the twentieth.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return 'ZX'.includes(fields[0]) ? 'over' : fields[19]
  } catch {
    return null
  }
}

function readFile (file) {
  try {
    const state = JSON.parse(fs.readFileSync(file, 'utf8'))
    return typeof state?.transferId === 'string' && Number.isSafeInteger(state.pid) ? { ended: null, ...state } : null
  } catch {
    return null
  }
}

function stateFiles () {
  return filesIn(FOLDER)
    .filter(({ file }) => file.endsWith(SUFFIX))
    .map(found => ({ ...found, transferId: path.basename(found.file, SUFFIX) }))
    .sort((a, b) => b.modified - a.modified)
}

function filesIn (name) {
  const folder = path.join(homeFolder(), name)
  try {
    return fs.readdirSync(folder).flatMap((entry) => {
      const file = path.join(folder, entry)
      const modified = fs.statSync(file, { throwIfNoEntry: false })?.mtimeMs
      return modified === undefined ? [] : [{ file, modified }]
    })
  } catch {
    return []
  }
}

function stateFile (transferId) {
  return path.join(homeFolder(), FOLDER, `${transferId}${SUFFIX}`)
}

function cancelFile (transferId) {
  return path.join(homeFolder(), FOLDER, `${transferId}.cancel`)
}

module.exports = { CANCEL_POLL_MS, OwnState, TakenOver, isRunning, logFile, readState, readStates, removeIfPossible, requestCancel, sweep }
