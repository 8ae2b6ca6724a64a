'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { CHANNEL, CONNECTION, idProblem, nodeOptions, numberProblem } = require('../flags')
const { LEFT, WAITED, exitCode } = require('../exit-codes')
const { quoted, size } = require('../output')
const { resumeCommand, keptFlags, withKept } = require('../detached/settings')
const { isRunning, readState } = require('../detached/state')
const { sentText } = require('../sending')

// How often the state of a process of this machine is read, and how often the task service is asked: at first, and by
// and by.
const READ_MS = 100
const ASK_MS = [250, 3000]

// How long the task service may be away in between.
const AWAY_MS = 120_000

module.exports = {
  summary: 'Follow a transfer to its end, and exit as it ends',
  positionals: ['TRANSFER-ID'],
  examples: [
    ['ats-p2p wait 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11', 'Until a detached send is over; exits with its exit code'],
    ['ats-p2p wait 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11 --timeout 60000', 'The same for a minute at most; exits with 18 if it goes on']
  ],
  flags: {
    timeout: { value: 'MS', help: 'wait no longer than this, in milliseconds', otherwise: 'until it is over' },
    ...CHANNEL,
    ...CONNECTION
  },

  check (values, [id]) {
    return idProblem(id, 'for which transfer?') ?? numberProblem(values)
  },

  async run ({ values: { timeout, ...values }, positionals: [id], output, interrupts }) {
    const limit = timeout === undefined ? interrupts.signal : AbortSignal.any([interrupts.signal, AbortSignal.timeout(Number(timeout))])
    const waiting = new Waiting(id, values, output, limit)
    try {
      return await waiting.end()
    } catch (error) {
      if (!limit.aborted || interrupts.signal.aborted) throw error
      output.note('waited', { transferId: id, timeout: Number(timeout) })
      output.problem(`transfer ${quoted(id)} is not over after ${timeout} ms, and goes on`)
      return WAITED
    } finally {
      await waiting.close()
    }
  }
}

/** One transfer that is followed. */
class Waiting {
  #id
  #values
  #output
  #signal
  #aborted
  #node = null
  #shown = null

  constructor (id, values, output, signal) {
    this.#id = id
    this.#values = values
    this.#output = output
    this.#signal = signal
    this.#aborted = new Promise((resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }))
    this.#aborted.catch(() => {})
  }

  /** Resolves with the exit code of the transfer, once it is over. */
  async end () {
    const state = readState(this.#id)
    if (state !== null) return this.#ofProcess(state)
    // By the id of its task, it may be of this machine all the same.
    const status = await this.#ask()
    const known = readState(status.transferId)
    return known === null ? this.#ofTask(status) : this.#ofProcess(known)
  }

  async close () {
    await this.#node?.destroy()
  }

  /** Follows a process of this machine by what it writes down. */
  async #ofProcess (state) {
    const { transferId } = state
    while (isRunning(state)) {
      this.#showProgress(state)
      await this.#pause(READ_MS)
      state = readState(transferId) ?? state
    }
    this.#output.ended(transferId)
    // It may have ended between the two.
    state = readState(transferId) ?? state
    if (state.ended === null) return this.#ofKilled(state)
    const { exitCode, text, event, facts } = state.ended
    this.#say(exitCode, text ?? `Transfer ${transferId} is over`, event ?? 'ended', facts ?? { transferId })
    return exitCode
  }

  /** What became of a transfer whose process is gone without a word. */
  async #ofKilled ({ transferId, pid, log, settings }) {
    const status = await this.#ask().catch(() => null)
    const ended = status && outcome(status)
    if (ended) return this.#saysTask(status, ended)
    const facts = { transferId, pid, log, status: status?.status ?? null }
    const resume = resumeCommand({ settings }, await keptFlags({}))
    this.#output.note('left', facts)
    this.#output.problem(`the process that was sending transfer ${transferId} is gone (${pid}): \`${resume}\` goes on with it, \`ats-p2p cancel ${transferId}\` withdraws it\nIts log: ${log}`)
    return LEFT
  }

  /** Follows a transfer by its task. */
  async #ofTask (status) {
    let pause = ASK_MS[0]
    let heard = performance.now()
    while (outcome(status) === null) {
      this.#showStatus(status)
      await this.#pause(pause)
      pause = Math.min(pause * 1.5, ASK_MS[1])
      try {
        status = await this.#ask(status.taskId)
        heard = performance.now()
      } catch (error) {
        if (!error.retryable || performance.now() - heard > AWAY_MS) throw error
      }
    }
    return this.#saysTask(status, outcome(status))
  }

  #saysTask (status, { code, why }) {
    const { transferId, taskId, fileName, fileSize, fileHash, recipientId } = status
    const what = `${quoted(fileName)} (${size(fileSize)})`
    if (code === null) {
      this.#output.say(sentText(what, recipientId ?? status.claimedBy, fileHash), 'transfer_complete', status)
      return 0
    }
    const exit = exitCode({ code })
    const message = `the transfer of ${what} ${why}`
    this.#say(exit, `${message} (${code})`, 'failed', { code, message, transferId, taskId, status: status.status })
    return exit
  }

  /** The last word: a result goes to stdout, a failure to stderr. */
  #say (exit, text, event, facts) {
    if (exit === 0) return this.#output.say(text, event, facts)
    this.#output.note(event, facts)
    this.#output.problem(text)
  }

  #showProgress ({ transferId, fileName, fileSize, recipientId, progress }) {
    if (JSON.stringify(progress) === this.#shown) return
    this.#shown = JSON.stringify(progress)
    this.#output.progress({ transferId, direction: 'send', fileName, fileSize, peerId: recipientId, ...progress }, { transferId, ...progress })
  }

  #showStatus ({ transferId, taskId, status }) {
    if (status === this.#shown) return
    this.#shown = status
    this.#output.note('status', { transferId, taskId, status })
  }

  async #ask (id = this.#id) {
    const { createNode } = require('../..')
    this.#node ??= await createNode(nodeOptions(withKept(readState(id), this.#values)))
    return Promise.race([this.#node.status(id), this.#aborted])
  }

  async #pause (ms) {
    await sleep(ms, undefined, { signal: this.#signal })
  }
}

/** How a task ended: `{ code, why }`, with a code of null if the file has arrived; null while it is open. */
function outcome ({ status, code, reason }) {
  if (status === 'completed') return { code: null }
  if (code === undefined) return null
  const how = status === 'pending' ? 'was accepted by nobody in time' : `was ${quoted(status)}`
  return { code, why: `${how}${reason ? `: ${quoted(reason)}` : ''}` }
}
