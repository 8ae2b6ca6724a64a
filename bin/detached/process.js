'use strict'

// The process in which a detached `send` goes on. What to send comes as a message, so that nothing of it stands where
// other users could read it; stdout and stderr are its log. See `start.js` for the process that starts it.

const fs = require('node:fs')
const path = require('node:path')
const { exitCode } = require('../exit-codes')
const send = require('../commands/send')
const { OwnState, isRunning, logFile, readState } = require('./state')

// How often it is looked whether another process asks to end the transfer.
const CANCEL_POLL_MS = 200

// What the first process is told: that the file is offered, or that there was nothing to offer.
const ANSWERS = ['offer_sent', 'offer_resumed', 'transfer_complete']

process.once('message', ({ values, positionals, log }) => { main(values, positionals, log) })

// It outlives the terminal that it was started from.
process.on('SIGHUP', () => {})

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
    if (ANSWERS.includes(event)) this.#tell({ text, event, facts: { ...facts, detached: this.#whereabouts(facts) } })
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
    if (!this.#state) fs.rmSync(this.#file, { force: true })
  }

  #begin ({ transferId, taskId, fileName, fileSize, recipientId }) {
    // One that runs already tells of itself.
    const before = readState(transferId)
    if (this.#state || (before !== null && before.pid !== process.pid && isRunning(before))) return
    const log = logFile(transferId)
    fs.renameSync(this.#file, log)
    this.#file = log
    this.#state = new OwnState({ transferId, taskId, fileName, fileSize, recipientId, log })
  }

  /** Where a transfer goes on: in this process, or another that was first. */
  #whereabouts ({ transferId }) {
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
