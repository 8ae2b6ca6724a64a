'use strict'

const fs = require('node:fs')
const path = require('node:path')

const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }

// How long a command may take to say good-bye to a task service that does not answer.
const GOODBYE_MS = 1800

/**
 * SIGINT, SIGTERM and SIGHUP ask a command to clean up and end; a second one ends the process at once, and so does
 * time: see `limit`.
 */
class Interrupts {
  #controller = new AbortController()
  #listeners = new Map()
  #alive = null
  #limitMs = GOODBYE_MS
  #interrupted

  /** What the process exits with, once a signal came. */
  exitCode = null

  constructor () {
    this.#interrupted = new Promise((resolve, reject) => {
      this.signal.addEventListener('abort', () => reject(new Error('interrupted')), { once: true })
    })
    this.#interrupted.catch(() => {})
    const hangupIgnored = survivesHangup()
    for (const [name, exitCode] of Object.entries(SIGNALS)) {
      const listener = name === 'SIGHUP' && hangupIgnored ? () => {} : () => this.#interrupt(exitCode)
      this.#listeners.set(name, listener)
      process.on(name, listener)
    }
  }

  /** Aborted when the command should end. */
  get signal () {
    return this.#controller.signal
  }

  /** How long the command takes at most to end once it was asked to. */
  limit (ms) {
    this.#limitMs = ms
  }

  /** What `promise` comes to; rejects at once when a signal comes, and whatever `promise` waits for is left alone. */
  async race (promise) {
    return Promise.race([promise, this.#interrupted])
  }

  /** Waits, keeping the process alive, until a signal comes. */
  async wait () {
    if (this.signal.aborted) return
    this.#alive ??= setInterval(() => {}, 2 ** 30)
    await new Promise(resolve => this.signal.addEventListener('abort', resolve, { once: true }))
  }

  close () {
    clearInterval(this.#alive)
    for (const [name, listener] of this.#listeners) process.off(name, listener)
  }

  #interrupt (exitCode) {
    if (this.exitCode !== null) process.exit(this.exitCode)
    this.exitCode = exitCode
    setTimeout(() => process.exit(exitCode), this.#limitMs).unref()
    this.#controller.abort()
  }
}

/**
 * Whether this process was started by nohup. Node takes back at its start that SIGHUP is ignored, so that it can only
 * be known by what else nohup leaves: its name as the command of the shell, or a stdin that cannot be read.
 */
function survivesHangup () {
  if (path.basename(process.env._ ?? '') === 'nohup') return true
  try {
    const [, flags] = /^flags:\s*([0-7]+)$/m.exec(fs.readFileSync('/proc/self/fdinfo/0', 'latin1'))
    return (parseInt(flags, 8) & 3) === fs.constants.O_WRONLY && fs.readlinkSync('/proc/self/fd/0') === '/dev/null'
  } catch {
    return false
  }
}

module.exports = { Interrupts }
