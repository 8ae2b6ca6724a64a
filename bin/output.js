'use strict'

const fs = require('node:fs')
const { sentence } = require('./failure')
const { HEAPED, belongs } = require('./joiners')
const { Lines } = require('./lines')
const { Progress } = require('./progress')

// Characters that control a terminal, reorder text or can't be seen, as ranges of code points: names and reasons
// come from others. It is the table of crates/protocol/src/text.rs, and a test there holds the two together.
const HIDDEN = [
  [0x0, 0x1f],
  [0x7f, 0x9f],
  [0xad, 0xad],
  [0x34f, 0x34f],
  [0x61c, 0x61c],
  [0x115f, 0x1160],
  [0x17b4, 0x17b5],
  [0x180b, 0x180f],
  [0x200b, 0x200f],
  [0x2028, 0x202e],
  [0x2060, 0x206f],
  [0x3164, 0x3164],
  [0xfe00, 0xfe0f],
  [0xfeff, 0xfeff],
  [0xffa0, 0xffa0],
  [0xfff0, 0xfffb],
  [0x1bca0, 0x1bca3],
  [0x1d173, 0x1d17a],
  [0xe0000, 0xe0fff]
]
const RANGES = HIDDEN.map(range => range.map(codePoint => `\\u{${codePoint.toString(16)}}`).join('-'))
const UNPRINTABLE = new RegExp(`[${RANGES.join('')}]`, 'gu')

/**
 * What a command says: results to stdout, as text or one JSON object a line; problems and progress to stderr. A reader
 * that goes away, or never reads, stops the printing and nothing else.
 */
class Output {
  // What reads a pipe may write to the same terminal.
  #progress = new Progress(process.stderr, { isShared: isPipe(1) })
  #out
  #err = new Lines(process.stderr)

  /**
   * `json`: for programs. `quiet`: nothing but problems, and what was asked for. `answers`: the command is there to
   * tell something, so that what it says is what was asked for.
   */
  constructor ({ json = false, quiet = false, answers = true } = {}) {
    Object.assign(this, { json, quiet, answers })
    this.#out = new Lines(process.stdout, {
      onFailed: error => this.problem(`what is printed is lost: ${error.message}`),
      onMissed: count => this.say(`(${count} lines are missing here: nobody read them in time)`, 'lines_missed', { count })
    })
  }

  /** Leaves stdout to a file's bytes: what is said goes to stderr from now on. */
  leaveStdout () {
    this.#out = this.#err
  }

  /** Whether something that was said is lost, and not because nobody wants it. */
  get lost () {
    return this.#out.failed !== null
  }

  /** Says one thing: `text` for people, `{ event: name, ...facts }` for programs. */
  say (text, name, facts = {}) {
    if (this.json) this.#print(`${jsonLine({ event: name, ...facts })}\n`)
    else if (this.answers || !this.quiet) this.#print(`${printable(text)}\n`)
  }

  /** Says something in JSON only: what people see otherwise, or not at all. */
  note (name, facts) {
    if (this.json) this.say('', name, facts)
  }

  /**
   * Says how far a transfer is: to people where they see it change, to programs on a line, which is left out if they do
   * not follow.
   */
  progress (transfer, facts = transfer) {
    if (this.quiet) return
    if (this.json) this.#out.write(`${jsonLine({ event: 'transfer_progress', ...facts })}\n`, true)
    else this.#progress.update({ ...transfer, fileName: quoted(transfer.fileName), peerId: quoted(transfer.peerId ?? '') })
  }

  /** A transfer is over. */
  ended (transferId) {
    this.#progress.remove(transferId)
  }

  /** Prints a text as it is. */
  print (text) {
    this.#print(text)
  }

  /** Prints a text as it is where problems go. */
  printError (text) {
    this.#progress.around(() => this.#err.write(text))
  }

  problem (text) {
    this.printError(`ats-p2p: ${printable(text)}\n`)
  }

  /** What does no harm by itself, and should be known. */
  warning (code, message) {
    if (this.quiet) return
    if (this.json) this.note('warning', { code, message })
    else this.problem(`warning: ${message}`)
  }

  /** The error that ends a command, or the transfer to one of several recipients. */
  failure (error, recipientId) {
    const said = sentence(error)
    this.note('failed', { recipientId, code: error?.code, message: error?.message ?? said, transferId: error?.transferId, taskId: error?.taskId, step: error?.step, retryable: error?.retryable })
    this.problem(recipientId === undefined ? said : `${quoted(recipientId)}: ${said}`)
    // Where it came from is of use to those alone who mend what nobody has foreseen.
    if (process.env.ATS_P2P_LOG && error?.stack && !error.code) this.printError(`${printable(error.stack)}\n`)
  }

  /** Resolves once all that was said has been handed over, or never will be. */
  async flushed () {
    this.#progress.end()
    await Promise.all([this.#out.flushed(), this.#err.flushed()])
  }

  #print (text) {
    this.#progress.around(() => this.#out.write(text))
  }
}

function isPipe (fd) {
  try {
    return fs.fstatSync(fd).isFIFO()
  } catch {
    return false
  }
}

/** The text with everything that could act on a terminal shown as `\u{…}`; line breaks of ours stay. */
function printable (text) {
  return String(text).split('\n').map(quoted).join('\n')
}

/** One line of foreign text, its line breaks shown too. */
function quoted (text) {
  const seen = String(text).replace(HEAPED, escape)
  return seen.replace(UNPRINTABLE, (character, at) => belongs(seen, at) ? character : escape(character))
}

function escape (character) {
  return `\\u{${character.codePointAt(0).toString(16)}}`
}

function jsonLine (value) {
  return JSON.stringify(value).replace(UNPRINTABLE, character => [...Array(character.length).keys()]
    .map(i => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''))
}

/** A line a fact: its name and what is known of it. Facts that are null or undefined are left out. */
function table (facts) {
  const known = facts.filter(([, value]) => value !== undefined && value !== null)
  const width = Math.max(...known.map(([name]) => name.length)) + 1
  return known.map(([name, value]) => `${`${name}:`.padEnd(width)} ${quoted(value)}`).join('\n')
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** A number of bytes for people: `64 MiB`, `1.5 GiB`. */
function size (bytes) {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), UNITS.length - 1)
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${UNITS[power]}`
}

/** How much a transfer is, for people: `64 MiB`, of a folder `3 entries, 64 MiB`. */
function amount ({ fileSize, tree }) {
  return tree ? `${entries(tree)}, ${size(tree.bytes)}` : size(fileSize)
}

function entries ({ entries }) {
  return `${entries} ${entries === 1 ? 'entry' : 'entries'}`
}

/** Megabytes a second, as `bytes` in `ms` make them. */
function rate (bytes, ms) {
  return `${(bytes / 1000 / Math.max(ms, 1)).toFixed(1)} MB/s`
}

/** How two peers are connected, for people: `lan, connected in 21 ms, round trip 0.2 ms (10.0.0.2:4000)`. */
function connection ({ path, connectMs, rttMs, remoteAddress }) {
  const roundTrip = rttMs === undefined ? '' : `, round trip ${milliseconds(rttMs)}`
  return `${path}, connected in ${milliseconds(connectMs)}${roundTrip} (${remoteAddress})`
}

function milliseconds (ms) {
  return `${ms < 10 ? Number(ms.toFixed(1)) : Math.round(ms)} ms`
}

module.exports = { Output, amount, connection, entries, quoted, rate, size, table }
