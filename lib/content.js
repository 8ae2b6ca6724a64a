'use strict'

// What is sent that is no file on the disk: bytes in memory, and streams, of which nobody knows the end.

const { isArrayBuffer, isSharedArrayBuffer } = require('node:util/types')
const { isDisturbed } = require('node:stream')
const addon = require('../addon')
const { AtsP2pError, aborted, invalid } = require('./error')
const { onAbort } = require('./signals')

// Most bytes that are kept of a stream where nobody says: what a usual disk has room for.
const MAX_SPOOLED = 10 * 1024 ** 3

// Shorter chunks are gathered: each write is a way to another thread and back.
const GATHERED = 256 * 1024

/** Bytes as the addon takes them, or undefined. */
function toBytes (value) {
  if (typeof value === 'string') return Buffer.from(value)
  try {
    if (isArrayBuffer(value)) return new Uint8Array(value)
    if (!ArrayBuffer.isView(value)) return undefined
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength)
    // Another thread may write to shared memory while it is read.
    return isSharedArrayBuffer(value.buffer) ? Uint8Array.from(bytes) : bytes
  } catch {
    // Not every Node.js tells of a buffer whether it was transferred.
    return reject('the bytes to send are gone: their buffer was transferred to somebody else')
  }
}

/** Whether it does what a Blob does: one of another realm, or a polyfill, is of another class. */
function isBlob (value) {
  return typeof value === 'object' && value !== null && typeof value.size === 'number' &&
    typeof value.stream === 'function' && typeof value.slice === 'function'
}

/** Bytes that are at hand: of any kind, or in a Blob. */
function content (value, what) {
  if (isBlob(value)) return value
  return toBytes(value) ?? reject(`${what} must be a string, bytes or a Blob`, value)
}

/** A stream of which nothing was read before, or anything that can be iterated. */
function source (value, what) {
  const isObject = typeof value === 'object' && value !== null && toBytes(value) === undefined
  // What is missing of it would be missing at the recipient, and nobody would know.
  if (isObject && (value.destroyed || value.errored || isDisturbed(value))) reject(`${what} was destroyed, or read from already`)
  if (isObject && value.locked === true) reject(`${what} is read by another already`)
  const canBeRead = isObject && (typeof value.getReader === 'function' || value[Symbol.asyncIterator] || value[Symbol.iterator])
  return canBeRead ? value : reject(`${what} must be a stream or an iterable of bytes or strings`, value)
}

/** The name that a file is to have at its recipient. */
function fileName (value, what) {
  if (typeof value !== 'string') reject(`${what} must be a string`, value)
  if (value.trim() === '' || /[/\0]/.test(value) || value === '.' || value === '..') {
    reject(`${what} must be the name of a file, and no path`, value)
  }
  return value
}

/** Bytes of a stream, and Infinity for as many as come. */
function limit (value, what) {
  if (value === Infinity) return Number.MAX_SAFE_INTEGER
  if (!Number.isSafeInteger(value) || value <= 0) reject(`${what} must be a positive whole number of bytes, or Infinity`, value)
  return value
}

/** Of `send`: exactly one of `filePath`, `filePaths`, `data` and `stream`, and the name where nothing else says it. */
function checkContent ({ filePath, filePaths, data, stream, maxBytes, fileName: name, ...rest }) {
  const given = Object.entries({ filePath, filePaths, data, stream }).filter(([, value]) => value !== undefined).map(([which]) => which)
  if (given.length > 1) reject(`send: ${given.join(' and ')} are given, and only one of filePath, filePaths, data and stream can be sent`)
  if (maxBytes !== undefined && stream === undefined) reject(`send: maxBytes goes with a stream, not with ${given[0]}`)
  if (filePath !== undefined) return { ...rest, filePath, fileName: name }
  if (filePaths !== undefined) return { ...rest, filePaths, fileName: name }
  const ofFile = typeof data?.name === 'string' ? data.name.split('/').at(-1) : undefined
  const called = name ?? (ofFile === undefined ? undefined : fileName(ofFile, 'send: the name of the File'))
  if (called === undefined) reject(`send: fileName is required with ${given[0]}`)
  return { ...rest, fileName: called, data, stream, maxBytes }
}

/**
 * Keeps all bytes of a stream, one chunk after another, until its end; none is asked for before the last is kept.
 * Ends it where that fails. `end` is called with what ends it otherwise: a function that gives the error.
 */
async function spool (stream, { fileName, maxBytes = MAX_SPOOLED }, end) {
  const native = new addon.NativeSpool(fileName, maxBytes)
  const reading = open(stream)
  let ended
  let fail
  const off = end((error) => {
    ended = error
    fail?.(error)
  })
  const next = () => new Promise((resolve, reject) => {
    fail = reject
    reading.next().then(resolve, error => reject(notRead(fileName, error)))
  })
  try {
    // A copy: who gives chunks may use the same memory for each.
    const gathered = Buffer.allocUnsafeSlow(GATHERED)
    let length = 0
    const keep = async () => {
      if (length > 0) await native.write(gathered.subarray(0, length))
      length = 0
    }
    for (;;) {
      if (ended) throw ended
      const { done, value } = await next()
      if (done) break
      const bytes = toBytes(value) ?? reject('send: the chunks of the stream must be bytes or strings', value)
      if (length + bytes.length > GATHERED) await keep()
      if (bytes.length > GATHERED) {
        await native.write(bytes)
      } else {
        gathered.set(bytes, length)
        length += bytes.length
      }
    }
    await keep()
    if (ended) throw ended
    return native
  } catch (error) {
    native.discard()
    reading.end(error)
    throw error
  } finally {
    off()
  }
}

/** What ends a spool: the caller's signal, and the end of the node. */
function ends (signal, ending) {
  return (end) => {
    const offs = [
      onAbort(signal, () => end(aborted(signal))),
      onAbort(ending, () => end(new AtsP2pError('The node was destroyed', { code: 'ATS_P2P_DESTROYED' })))
    ]
    if (signal?.aborted) end(aborted(signal))
    return () => { for (const off of offs) off() }
  }
}

/** Reads a stream of any kind: `next` gives a chunk, `end` has it give no more. */
function open (stream) {
  if (typeof stream.getReader === 'function') {
    const reader = stream.getReader()
    return { next: () => reader.read(), end: reason => { reader.cancel(reason).catch(() => {}) } }
  }
  const iterator = stream[Symbol.asyncIterator]?.() ?? stream[Symbol.iterator]()
  return {
    next: async () => iterator.next(),
    end: () => {
      if (typeof stream.destroy === 'function') return stream.destroy()
      // A generator that is busy ends when it comes to its next chunk.
      Promise.resolve(iterator.return?.()).catch(() => {})
    }
  }
}

/** Ends a stream that is not wanted any more, whether it was read or not. */
function abandon (stream) {
  // One that was read is another's, or has ended.
  if (stream !== undefined && !stream.locked && !isDisturbed(stream)) open(stream).end()
}

function notRead (name, error) {
  return new AtsP2pError(`${name} can't be read: ${error?.message ?? error}`, { code: 'ATS_P2P_NOT_READABLE', step: 'file', cause: error })
}

function reject (message, value) {
  throw invalid(message, value)
}

module.exports = { abandon, checkContent, content, ends, fileName, isBlob, limit, source, spool }
