'use strict'

// What the value of an option must be. A check returns it in the form that the addon takes.

const { isUtf8 } = require('node:buffer')
const path = require('node:path')
const { fileURLToPath } = require('node:url')
const { isUint8Array } = require('node:util/types')
const { invalid } = require('./error')
const { isSignal } = require('./signals')

// The longest a timer can be; one that never needs to fire.
const LONGEST_TIMER_MS = 2 ** 31 - 1

// Most files that a node receives at once: each has a connection, an open file and a thread.
const MAX_CONCURRENT = 256

// The least rate that may be asked for, bytes a second: of less a peer would say that nothing moves.
const MIN_RATE = 1024

// What an offer may say of its file, as JSON.
const MAX_METADATA_BYTES = 4096

const EXISTING = ['rename', 'overwrite', 'skip']

function string (value, what) {
  if (typeof value !== 'string') throw invalid(`${what} must be a string`, value)
  return value
}

function number (value, what) {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid(`${what} must be a whole number from 0 on`, value)
  return value
}

/** What becomes of a file whose name is taken in its folder. */
function existing (value, what) {
  if (!EXISTING.includes(value)) throw invalid(`${what} must be one of ${EXISTING.join(', ')}`, value)
  return value
}

function taskId (value, what) {
  if (!isTaskId(value)) throw invalid(`${what} must be the id of a transfer or a task`, value)
  return String(value)
}

function isTaskId (value) {
  return typeof value === 'number' ? Number.isFinite(value) : typeof value === 'string' && value.trim() !== ''
}

function count (value, what) {
  if (!Number.isSafeInteger(value) || value < 1) throw invalid(`${what} must be a positive whole number`, value)
  return value
}

function places (value, what) {
  if (!Number.isInteger(value) || value < 1 || value > MAX_CONCURRENT) {
    throw invalid(`${what} must be a whole number from 1 to ${MAX_CONCURRENT}`, value)
  }
  return value
}

function text (value, what) {
  if (string(value, what).trim() === '') throw invalid(`${what} must not be empty`)
  return value
}

function texts (value, what) {
  if (!Array.isArray(value)) throw invalid(`${what} must be an array of strings`, value)
  return value.map(item => text(item, `each of ${what}`))
}

function addresses (value, what) {
  return texts(value, what).map((address) => {
    const port = Number(/:(\d{1,5})$/.exec(address)?.[1])
    if (!(port > 0 && port < 65536)) throw invalid(`each of ${what} must be host:port`, address)
    return address
  })
}

function publicKey (value, what) {
  if (!/^[0-9a-fA-F]{64}$/.test(string(value, what))) throw invalid(`${what} must be a key of 64 hex digits`, value)
  return value
}

function url (value, what) {
  const text = isUrl(value) ? value.href : value
  const parsed = typeof text === 'string' && URL.canParse(text) ? new URL(text) : null
  if (!parsed || !/^https?:$/.test(parsed.protocol)) throw invalid(`${what} must be an http or https URL`, value)
  return text
}

/** Whether it is a URL: one of another realm, or a polyfill, is of another class. */
function isUrl (value) {
  return typeof value === 'object' && value !== null && typeof value.href === 'string' && typeof value.protocol === 'string'
}

function localPath (value, what) {
  const named = isUrl(value) ? pathOf(value, what) : text(value, what)
  if (named.includes('\0')) throw invalid(`${what} must not hold a NUL character`)
  // A trailing separator says "a folder", which resolve() would drop.
  const absolute = resolved(named, what)
  return /[/\\]$/.test(named) ? path.join(absolute, path.sep) : absolute
}

function resolved (named, what) {
  try {
    return path.resolve(named)
  } catch (error) {
    throw invalid(`${what} must be an absolute path, because the current folder is gone or closed (${error.code})`, named)
  }
}

/** A path whose bytes need be no text, as those of Node's `fs`: the addon takes the bytes of such a one in digits. */
function filePath (value, what) {
  if (!isUint8Array(value)) return localPath(value, what)
  if (value.length === 0) throw invalid(`${what} must not be empty`)
  const bytes = Buffer.from(value)
  if (isUtf8(bytes)) return localPath(bytes.toString(), what)
  if (process.platform === 'win32') throw invalid(`${what} must be UTF-8: on Windows a path is text`)
  if (bytes.includes(0)) throw invalid(`${what} must not hold a NUL character`)
  return { bytes: bytes.toString('hex') }
}

/** At least one such path. */
function filePaths (value, what) {
  if (!Array.isArray(value)) throw invalid(`${what} must be an array of paths`, value)
  if (value.length === 0) throw invalid(`${what} must name at least one file`)
  return value.map(item => filePath(item, `each of ${what}`))
}

function pathOf (value, what) {
  if (value.protocol !== 'file:') throw invalid(`${what} must be a path or a file: URL`, value.href)
  try {
    return fileURLToPath(value.href)
  } catch (error) {
    throw invalid(`${what} must be a file: URL of this machine: ${error.message}`)
  }
}

/** Where a seed is; false for no identity, true for the one in the home. */
function seedPath (value, what) {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && !isUrl(value)) throw invalid(`${what} must be the path of a seed, or false`, value)
  return localPath(value, what)
}

function tunnelPlace (value, what) {
  if (typeof value === 'boolean') return value
  if (typeof value !== 'string' && !isUrl(value)) throw invalid(`${what} must be the address of a tunnel, or false`, value)
  return isUrl(value) ? value.href : value
}

function bytes (value, what) {
  if (value === Infinity) return undefined
  if (!Number.isSafeInteger(value) || value <= 0) throw invalid(`${what} must be a positive whole number of bytes`, value)
  return value
}

/** Bytes a second. */
function rate (value, what) {
  if (value === Infinity) return undefined
  if (!Number.isSafeInteger(value) || value < MIN_RATE) throw invalid(`${what} must be a whole number of bytes a second, at least ${MIN_RATE}`, value)
  return value
}

/**
 * The bytes of a text with a unit, as rsync has them: K, M and G, or KiB and so on, are 1024, 1024² and 1024³; KB, MB
 * and GB are 1000, 1000² and 1000³. NaN for any other text. The addon reads a variable by the same rules.
 */
function bytesOf (text) {
  const [, number, letter, rest] = /^(\d+(?:\.\d*)?|\.\d+)(?:([KMG])(i?B)?)?$/i.exec(text) ?? []
  if (number === undefined) return NaN
  const base = /^b$/i.test(rest ?? '') ? 1000 : 1024
  return Math.floor(Number(number) * base ** (letter ? 'KMG'.indexOf(letter.toUpperCase()) + 1 : 0))
}

function milliseconds (value, what) {
  if (typeof value !== 'number' || !(value > 0 && value <= LONGEST_TIMER_MS)) {
    throw invalid(`${what} must be a number of milliseconds above 0 and up to ${LONGEST_TIMER_MS}`, value)
  }
  return Math.ceil(value)
}

/** How long a hub keeps what is over; the addon takes 0 for ever. */
function retention (value, what) {
  if (value === Infinity) return 0
  if (typeof value !== 'number' || !(value > 0 && value <= Number.MAX_SAFE_INTEGER)) {
    throw invalid(`${what} must be a number of milliseconds above 0, or Infinity`, value)
  }
  return Math.ceil(value)
}

/** A value as JSON text. */
function json (value, what) {
  const text = textOf(value, what)
  const size = Buffer.byteLength(text)
  if (size > MAX_METADATA_BYTES) throw invalid(`${what} must be at most ${MAX_METADATA_BYTES} bytes as JSON, and is ${size}`)
  return text
}

function textOf (value, what) {
  try {
    const text = JSON.stringify(value)
    if (text !== undefined) return text
  } catch (error) {
    throw invalid(`${what} must be a value that JSON can hold: ${error.message}`)
  }
  throw invalid(`${what} must be a value that JSON can hold`, value)
}

function port (value, what) {
  if (!Number.isInteger(value) || value < 0 || value > 65535) throw invalid(`${what} must be a whole number from 0 to 65535`, value)
  return value
}

function boolean (value, what) {
  if (typeof value !== 'boolean') throw invalid(`${what} must be true or false`, value)
  return value
}

function callback (value, what) {
  if (typeof value !== 'function') throw invalid(`${what} must be a function`, value)
  return value
}

function abortSignal (value, what) {
  if (isSignal(value?.signal)) throw invalid(`${what} must be an AbortSignal: the \`signal\` of this AbortController`)
  if (!isSignal(value)) throw invalid(`${what} must be an AbortSignal`, value)
  return value
}

function unwanted (value, what) {
  throw invalid(`${what} does not go with a path`)
}

module.exports = {
  LONGEST_TIMER_MS,
  MIN_RATE,
  abortSignal,
  addresses,
  boolean,
  bytes,
  bytesOf,
  callback,
  count,
  existing,
  filePath,
  filePaths,
  isTaskId,
  isUrl,
  json,
  localPath,
  milliseconds,
  number,
  places,
  port,
  publicKey,
  rate,
  retention,
  seedPath,
  string,
  taskId,
  text,
  texts,
  tunnelPlace,
  unwanted,
  url
}
