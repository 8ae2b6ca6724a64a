'use strict'

const SIGNALS = { SIGINT: 130, SIGTERM: 143 }

/** SIGINT and SIGTERM ask a command to clean up and end; a second one ends the process at once. */
class Interrupts {
  #controller = new AbortController()
  #listeners = new Map()
  #alive = null

  /** What the process exits with, once a signal came. */
  exitCode = null

  constructor () {
    for (const [name, exitCode] of Object.entries(SIGNALS)) {
      const listener = () => {
        if (this.exitCode !== null) process.exit(this.exitCode)
        this.exitCode = exitCode
        this.#controller.abort()
      }
      this.#listeners.set(name, listener)
      process.on(name, listener)
    }
  }

  /** Aborted when the command should end. */
  get signal () {
    return this.#controller.signal
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
}

module.exports = { Interrupts }
