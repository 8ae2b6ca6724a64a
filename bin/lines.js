'use strict'

// What may wait for a reader that is slow: beyond the first, lines that a later one makes up for are left out;
// beyond the second, all are.
const BUSY_BYTES = 64 * 1024
const FULL_BYTES = 8 * 1024 * 1024

// The reader is gone, and with it whoever would miss what is printed: a pipe was closed, or a terminal hung up.
const GONE = new Set(['EPIPE', 'EIO', 'EOF', 'ECONNRESET', 'ERR_STREAM_DESTROYED'])

/** Text for one stream of this process. Whatever becomes of its reader, the command goes on. */
class Lines {
  #stream
  #closed = false
  #missed = 0
  #onMissed

  /** Why what was printed did not arrive, where somebody misses it: the error of a full disk. */
  failed = null

  /** `onFailed(error)` hears of the first failure that somebody should know of, `onMissed(count)` of lines left out. */
  constructor (stream, { onFailed = () => {}, onMissed = () => {} } = {}) {
    this.#stream = stream
    this.#onMissed = onMissed
    stream.on('error', (error) => {
      if (this.#closed) return
      this.#closed = true
      if (GONE.has(error.code)) return
      this.failed = error
      onFailed(error)
    })
    stream.on('drain', () => this.#caughtUp())
  }

  /** Writes a text; one that is `passing`, because a later one makes up for it, only where it can be read soon. */
  write (text, passing = false) {
    if (this.#closed) return
    const waiting = this.#stream.writableLength
    if (passing && waiting > BUSY_BYTES) return
    if (waiting > FULL_BYTES) this.#missed++
    else this.#stream.write(text)
  }

  /** Resolves once all has been handed over, or never will be. */
  async flushed () {
    // What went wrong with the last text is told in the next turn.
    await new Promise(resolve => setImmediate(resolve))
    while (!this.#closed && this.#stream.writableLength > 0) {
      await new Promise((resolve) => this.#stream.write('', resolve))
    }
  }

  #caughtUp () {
    const count = this.#missed
    this.#missed = 0
    if (count > 0) this.#onMissed(count)
  }
}

module.exports = { Lines }
