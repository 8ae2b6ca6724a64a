'use strict'

// A file that goes to a reader rather than to a disk.

const { Readable } = require('node:stream')
const { AtsP2pError } = require('./error')

// Bytes that a web stream has read ahead. What Node.js makes of a stream by itself counts chunks, and reads all of it.
const READ_AHEAD = 1024 * 1024

/**
 * The bytes of a file as they come. It ends once they are verified and the sender knows, and fails otherwise; who
 * destroys it before ends the transfer.
 */
class ReceivedFile extends Readable {
  #outlet
  #first
  #result
  #abort

  /** `first` is what was read of `outlet` already, `result` what the transfer comes to, and `abort` ends it. */
  constructor ({ outlet, first, result, abort }) {
    super()
    this.#outlet = outlet
    this.#first = first
    this.#result = result
    this.#abort = abort
  }

  /** What the transfer comes to; it rejects with what destroys the stream. */
  get result () {
    return this.#result
  }

  /** The same as a web stream; one of the two can be read. */
  web () {
    return Readable.toWeb(this, { strategy: new ByteLengthQueuingStrategy({ highWaterMark: READ_AHEAD }) })
  }

  /** All of it, in `bytes`, which have its length. */
  async collect (bytes) {
    let at = 0
    for await (const chunk of this) at += chunk.copy(bytes, at)
    return bytes
  }

  _read () {
    this.#next().then(bytes => this.push(bytes), error => this.destroy(error))
  }

  _destroy (error, callback) {
    this.#abort()
    callback(error)
  }

  async #next () {
    const bytes = this.#first === undefined ? await this.#outlet.read() : this.#first
    this.#first = undefined
    if (bytes === null) await this.#result
    return bytes
  }
}

/** Begins to read `outlet`: resolves with the stream once bytes are there, and rejects with what keeps them away. */
async function receive (outlet, result, abort) {
  // Who reads is told by the stream.
  result.catch(() => {})
  const reading = outlet.read()
  // The transfer may be over before the bytes that it gave are here.
  const first = await Promise.race([reading, result.then(() => reading)])
  if (first === null) await result
  return new ReceivedFile({ outlet, first, result, abort })
}

/** Memory for a whole file. */
function allocate (size, { fileName, transferId }) {
  try {
    return Buffer.allocUnsafeSlow(size)
  } catch (cause) {
    throw new AtsP2pError(`${fileName} has ${size} bytes, for which there is no memory here: take it as a stream, or to a disk; the offer still stands`, { code: 'ATS_P2P_TOO_LARGE', transferId, step: 'offer', cause })
  }
}

module.exports = { allocate, receive }
