'use strict'

// Runs a program for each file that has arrived.

const { spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { quoted } = require('./output')

// Programs that run at once; the other files wait their turn.
const MAX_RUNNING = 4

// What a program has no use for: keys, and a database's address with its password.
const SECRETS = new Set(['ATS_API_KEY', 'ATS_P2P_DATABASE'])
const PROXIES = /^(?:https?|all|ftp|ws|wss)_proxy$/i

/** Programs of one name, each run for one file. They say on stderr what they have to say. */
class Exec {
  #program
  #command
  #args
  #output
  #signals
  #running = new Set()
  #waiting = []
  #interrupted = false

  /** `command` is the program as it was named, `args` its first arguments, `interrupts` what ends it early. */
  constructor (command, args, { output, interrupts }) {
    this.#program = find(command)
    this.#command = command
    this.#args = args
    this.#output = output
    this.#signals = interrupts
    interrupts.signal.addEventListener('abort', () => this.#interrupt())
  }

  /** Runs it for a file that has arrived; resolves with whether it ended well, null where it was not run. */
  run (transfer) {
    return new Promise((resolve) => {
      if (this.#interrupted) return this.#leave({ transfer, resolve })
      this.#waiting.push({ transfer, resolve })
      this.#next()
    })
  }

  /** Resolves once none runs. */
  async ended () {
    while (this.#running.size > 0) await Promise.all([...this.#running].map(({ ended }) => ended))
  }

  #next () {
    if (this.#running.size >= MAX_RUNNING || this.#waiting.length === 0) return
    const { transfer, resolve } = this.#waiting.shift()
    const started = performance.now()
    const running = { child: this.#start(transfer) }
    running.ended = new Promise((done) => {
      running.child.once('error', error => done({ exitCode: null, signal: null, error }))
      running.child.once('exit', (exitCode, signal) => done({ exitCode, signal }))
    }).then((end) => {
      this.#running.delete(running)
      resolve(this.#told(transfer, { ...end, durationMs: Math.round(performance.now() - started) }))
      this.#next()
    })
    this.#running.add(running)
  }

  #start ({ filePath, ...transfer }) {
    return spawn(this.#program, [...this.#args, filePath], {
      argv0: this.#command,
      env: { ...environment(process.env), ...describe({ filePath, ...transfer }) },
      // What is on stdout is ours to say. A group of its own hears of a signal once: from us.
      stdio: ['ignore', 2, 2],
      detached: process.platform !== 'win32',
      windowsHide: true
    })
  }

  #told ({ transferId, taskId, filePath }, { exitCode, signal, durationMs, error }) {
    this.#output.note('exec_complete', { transferId, taskId, filePath, program: this.#command, exitCode, signal, durationMs, ...(error && { message: error.message }) })
    if (exitCode === 0) return true
    const how = error?.message ?? (signal ? `was ended by ${signal}` : `ended with ${exitCode}`)
    this.#output.problem(`${quoted(this.#command)} ${how} for ${quoted(filePath)}`)
    return false
  }

  #leave ({ transfer, resolve }) {
    this.#output.problem(`${quoted(this.#command)} was not run for ${quoted(transfer.filePath)}: interrupted`)
    resolve(null)
  }

  #interrupt () {
    this.#interrupted = true
    for (const left of this.#waiting.splice(0)) this.#leave(left)
    const number = this.#signals.exitCode - 128
    const [signal] = Object.entries(os.constants.signals).find(([, value]) => value === number) ?? ['SIGTERM']
    for (const { child } of this.#running) kill(child, signal)
  }
}

/** Passes a signal to a child and those that it has started. */
function kill (child, signal) {
  if (child.pid === undefined) return
  try {
    if (process.platform === 'win32') child.kill(signal)
    else process.kill(-child.pid, signal)
  } catch {
    // It has just ended.
  }
}

/** What is known of the file, for the program's environment. */
function describe ({ filePath, fileName, fileHash, fileSize, peerId, peerIdentity, verified, transferId, taskId, metadata }) {
  return {
    ATS_P2P_FILE: filePath,
    ATS_P2P_FILE_NAME: fileName,
    ATS_P2P_HASH: fileHash,
    ATS_P2P_SIZE: String(fileSize),
    ATS_P2P_SENDER: peerId,
    ATS_P2P_SENDER_IDENTITY: peerIdentity ?? '',
    ATS_P2P_VERIFIED: verified ? '1' : '0',
    ATS_P2P_TRANSFER_ID: transferId,
    ATS_P2P_TASK_ID: String(taskId),
    ATS_P2P_METADATA: metadata === null ? '' : JSON.stringify(metadata)
  }
}

/** The environment without secrets: no keys, no names and passwords in the addresses of proxies. */
function environment (variables) {
  const kept = Object.entries(variables).filter(([name]) => !SECRETS.has(name.toUpperCase()))
  return Object.fromEntries(kept.map(([name, value]) => [name, PROXIES.test(name) ? value.replace(/^([a-z\d+.-]+:\/\/)?.*@/i, '$1') : value]))
}

/** The program's file, as a shell would find it; null if there is none that can be run. */
function find (command) {
  if (command === '') return null
  const isPath = command.includes('/') || (process.platform === 'win32' && command.includes('\\'))
  const folders = isPath ? [''] : (process.env.PATH ?? '').split(path.delimiter).map(folder => folder || '.')
  const endings = process.platform === 'win32' ? ['', '.exe', '.com'] : ['']
  const files = folders.flatMap(folder => endings.map(ending => path.resolve(folder, command + ending)))
  return files.find(isProgram) ?? null
}

function isProgram (file) {
  try {
    fs.accessSync(file, fs.constants.X_OK)
    return fs.statSync(file).isFile()
  } catch {
    return false
  }
}

module.exports = { Exec, find }
