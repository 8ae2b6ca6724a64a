'use strict'

// The process in which a detached `send` goes on. What to send comes as a message, so that nothing of it stands where
// other users could read it; stdout and stderr are its log. See `start.js` for the process that starts it.

const fs = require('node:fs')
const { exitCode } = require('../exit-codes')
const send = require('../commands/send')
const { keptFlags } = require('./settings')
const { CANCEL_POLL_MS, OwnState, isRunning, logFile, readState, removeIfPossible } = require('./state')

// What the first process is told: that the file is offered, or that there was nothing to offer.
const ANSWERS = ['offer_sent', 'offer_resumed', 'transfer_complete']

process.once('message', ({ values, positionals, log }) => { main(values, positionals, log) })

// It outlives the terminal that it was started from.
process.on('SIGHUP', () => {})

// A log that can't be written, as on a full disk, ends no transfer.
process.stdout.on('error', () => {})

async function main (values, positionals, log) {
  const controller = new AbortController()
  const { signal } = controller
  const end = () => controller.abort()
  process.on('SIGTERM', end).on('SIGINT', end)
  process.on('message', end)
  const output = new Log(log)
  // Nobody knows of a transfer yet whose first process is gone before it could say so, and nobody can ask for it again.
  process.on('disconnect', () => { if (!output.isKnown && values['idempotency-key'] === undefined) end() })
  const poll = setInterval(() => { if (output.isCancelled()) end() }, CANCEL_POLL_MS)
  let code
  try {
    const interrupts = { signal, exitCode: null, wait: () => new Promise(resolve => signal.addEventListener('abort', resolve, { once: true })) }
    // What is wrong with the flags, `send` says.
    output.settings = await keptFlags(values).catch(() => ({}))
    code = await send.run({ values: { ...values, detach: false }, positionals, output, interrupts }) ?? 0
  } catch (error) {
    output.failure(error)
    code = exitCode(error)
  }
  clearInterval(poll)
  output.end(code)
  // Nobody waits for the message of a process that has ended.
  if (process.connected) process.send({ ended: code }, () => process.disconnect())
  process.exitCode = code
}

/** What is told of an error. */
function told ({ code, message, stack, transferId, taskId, step, retryable }) {
  return { code, message: code ? message : stack, transferId, taskId, step, retryable }
}

/** The same, where another command ended the transfer: to whoever waits for it that is no more than this. */
function cancelled ({ message, ...error }) {
  return told({ ...error, message: 'the transfer was cancelled', code: 'ATS_P2P_CANCELLED' })
}

/** What a command says, as lines of JSON in the log, and as the state of its transfer. */
class Log {
  json = true
  isKnown = false
  // The flags by which others find the transfer.
  settings = {}
  #file
  #state = null
  #failure = null
  #last = null

  constructor (file) {
    this.#file = file
  }

  say (text, event, facts = {}) {
    this.#write(event, facts)
    if (event === 'offer_sent' || event === 'offer_resumed') this.#begin(facts)
    if (event === 'transfer_complete') this.#last = { text, event, facts }
    const isOver = event === 'transfer_complete'
    if (ANSWERS.includes(event) && (isOver || !this.#wasDelivered(facts))) {
      this.#tell({ text, event, facts: { ...facts, detached: isOver ? null : this.#whereabouts(facts) } })
    }
  }

  note (event, facts) {
    this.#write(event, facts)
  }

  progress ({ phase, bytes, totalBytes, rate, eta }) {
    this.#state?.progress({ phase, bytes, totalBytes, rate, eta })
  }

  ended () {}

  problem (text) {
    this.#write('problem', { text })
  }

  warning (code, message) {
    this.#write('warning', { code, message })
  }

  failure (error) {
    const facts = this.isCancelled() && error.code === 'ATS_P2P_ABORTED' ? cancelled(error) : told(error)
    this.#write('failed', facts)
    this.#last = { text: facts.code ? `${facts.message} (${facts.code})` : facts.message, event: 'failed', facts }
    this.#failure = facts
  }

  isCancelled () {
    return this.#state?.isCancelled() ?? false
  }

  end (code) {
    this.#state?.end({ exitCode: code, ...this.#last })
    if (this.#failure && !this.isKnown) this.#tell({ failure: this.#failure })
    // What was never offered was told to whoever asked for it.
    if (!this.#state) removeIfPossible(this.#file)
  }

  #begin ({ transferId, taskId, fileName, fileSize, recipientId }) {
    // One that runs already tells of itself.
    const before = readState(transferId)
    if (this.#state || this.#wasDelivered({ transferId }) || (before !== null && before.pid !== process.pid && isRunning(before))) return
    const log = logFile(transferId)
    try {
      fs.renameSync(this.#file, log)
      this.#file = log
    } catch {
      // It keeps the name that it has.
    }
    this.#state = new OwnState({ transferId, taskId, fileName, fileSize, recipientId, log: this.#file, settings: this.settings })
  }

  /** Whether an earlier process is known to have sent it, so that nothing of it goes on. */
  #wasDelivered ({ transferId }) {
    return this.#state === null && readState(transferId)?.ended?.exitCode === 0
  }

  /** Where a transfer goes on: in this process, or another that was first. */
  #whereabouts ({ transferId }) {
    if (this.#state) return { pid: process.pid, log: this.#file }
    const state = readState(transferId)
    return state === null || state.ended ? null : { pid: state.pid, log: state.log }
  }

  #tell (message) {
    this.isKnown = true
    if (process.connected) process.send(message)
  }

  #write (event, facts) {
    process.stdout.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...facts })}\n`)
  }
}
