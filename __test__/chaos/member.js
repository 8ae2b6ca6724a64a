'use strict'

// A process of a run that may be killed and is started again: the hub, an agent, the one that asks the hub.

const { spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')

class Member {
  /** When it was started last and is up; null while it is down. */
  up = null
  #name
  #command
  #logs
  #hear
  #crashed
  #child = null
  #starts = 0

  /**
   * `command` is `{ prefix, args, env, said }`: what it is run by, its arguments, its environment, and the event that says
   * that it is up. `hear` gets what it says; `crashed` why it ended by itself.
   */
  constructor ({ name, command, logs, hear, crashed }) {
    this.#name = name
    this.#command = command
    this.#logs = logs
    this.#hear = hear
    this.#crashed = crashed
  }

  /** Starts it; resolves when it is up. */
  async start () {
    const { prefix, args, env, said } = this.#command
    const [program, ...rest] = [...prefix, process.execPath, ...args]
    const log = fs.openSync(`${this.#logs}/${this.#name}-${++this.#starts}.log`, 'w')
    const child = spawn(program, rest, { stdio: ['ignore', 'ignore', log, 'ipc'], env: { ...process.env, ...env } })
    fs.closeSync(log)
    this.#child = child
    child.on('error', () => {})
    const up = new Promise(resolve => child.on('message', (message) => {
      if (message.event === said) resolve()
      if (child === this.#child) this.#hear(message)
    }))
    const ended = once(child, 'exit').then(([code, signal]) => {
      if (child !== this.#child) return
      this.up = null
      this.#child = null
      this.#crashed(`${this.#name} ended by itself, with ${signal ?? code}`)
    })
    await Promise.race([up, ended])
    if (child === this.#child) this.up = Date.now()
  }

  /** Kills it with no warning. */
  async kill () {
    const child = this.#child
    this.#child = this.up = null
    if (!child) return
    const ended = once(child, 'exit')
    child.kill('SIGKILL')
    await ended
  }

  signal (name) {
    this.#child?.kill(name)
  }

  /** False if it is down. */
  say (message) {
    const isUp = this.up !== null && this.#child !== null
    if (isUp) this.#child.send(message, () => {})
    return isUp
  }

  /** Gives it another environment from its next start on. */
  change (env) {
    Object.assign(this.#command.env, env)
  }

  /** Asks it to end, and kills it after a while. */
  async end () {
    const child = this.#child
    if (!child) return
    const ended = once(child, 'exit')
    this.#child = this.up = null
    child.send({ end: true }, () => {})
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
  }
}

module.exports = { Member }
