'use strict'

const { Lines } = require('./lines')
const { ProgressBar } = require('./progress')

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
 * What a command says: results to stdout, as text or one JSON object a line; problems to stderr. A reader that goes
 * away, or never reads, stops the printing and nothing else.
 */
class Output {
  #bar = new ProgressBar(process.stderr)
  #out
  #err = new Lines(process.stderr)

  constructor ({ json = false } = {}) {
    this.json = json
    this.#out = new Lines(process.stdout, {
      onFailed: error => this.problem(`what is printed is lost: ${error.message}`),
      onMissed: count => this.say(`(${count} lines are missing here: nobody read them in time)`, 'lines_missed', { count })
    })
  }

  /** Whether something that was said is lost, and not because nobody wants it. */
  get lost () {
    return this.#out.failed !== null
  }

  /** Says one thing: `text` for people, `{ event: name, ...facts }` for programs. */
  say (text, name, facts = {}) {
    this.#say(text, name, facts)
  }

  /** Says something in JSON only: what people see as a bar, or not at all. */
  note (name, facts) {
    if (this.json) this.#say('', name, facts)
  }

  /** Says how far something is: for people a bar, and for programs a line, unless they don't follow. */
  progress (done, total, facts) {
    if (this.json) this.#say('', 'transfer_progress', facts, true)
    else this.#bar.update(done, total)
  }

  /** Prints a text as it is. */
  print (text) {
    this.#out.write(text)
  }

  problem (text) {
    this.#bar.clear()
    this.#err.write(`ats-p2p: ${printable(text)}\n`)
  }

  /** The error that ends a command. */
  failure (error) {
    this.note('failed', { code: error.code, message: error.message, transferId: error.transferId, taskId: error.taskId, step: error.step, retryable: error.retryable })
    this.problem(error.code ? `${error.message} (${error.code})` : error.stack ?? String(error))
  }

  /** Resolves once all that was said has been handed over, or never will be. */
  async flushed () {
    await Promise.all([this.#out.flushed(), this.#err.flushed()])
  }

  #say (text, name, facts, passing) {
    this.#bar.clear()
    this.#out.write(this.json ? `${jsonLine({ event: name, ...facts })}\n` : `${printable(text)}\n`, passing)
  }
}

/** The text with everything that could act on a terminal shown as `\u{…}`; line breaks of ours stay. */
function printable (text) {
  return String(text).split('\n').map(line => line.replace(UNPRINTABLE, escape)).join('\n')
}

/** One line of foreign text, its line breaks shown too. */
function quoted (text) {
  return String(text).replace(UNPRINTABLE, escape)
}

function escape (character) {
  return `\\u{${character.codePointAt(0).toString(16)}}`
}

function jsonLine (value) {
  return JSON.stringify(value).replace(UNPRINTABLE, character => [...Array(character.length).keys()]
    .map(i => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`).join(''))
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** A number of bytes for people: `64 MiB`, `1.5 GiB`. */
function size (bytes) {
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), UNITS.length - 1)
  return `${Number((bytes / 1024 ** power).toFixed(1))} ${UNITS[power]}`
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

module.exports = { Output, connection, quoted, rate, size }
