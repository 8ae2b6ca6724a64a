'use strict'

// A file that goes to a reader rather than to a disk.

const { Readable } = require('node:stream')

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

  /** All of it, which has `size` bytes. */
  async collect (size) {
    const bytes = Buffer.allocUnsafeSlow(size)
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
  const first = await Promise.race([outlet.read(), result.then(() => null)])
  if (first === null) await result
  return new ReceivedFile({ outlet, first, result, abort })
}

module.exports = { receive }
