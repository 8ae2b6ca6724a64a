'use strict'

const WIDTH = 30
const REDRAW_MS = 100

/** A bar on a terminal; nothing where there is none. */
class ProgressBar {
  #stream
  #shown = false
  #drawn = 0
  #started = null

  constructor (stream) {
    this.#stream = stream
  }

  update (done, total) {
    if (!this.#stream.isTTY) return
    const now = performance.now()
    if (this.#started === null || done < this.#started.done) this.#started = { now, done }
    if (done < total && now - this.#drawn < REDRAW_MS) return
    this.#drawn = now
    const share = total > 0 ? done / total : 1
    const filled = Math.round(share * WIDTH)
    const seconds = (now - this.#started.now) / 1000
    const speed = seconds > 0 ? (done - this.#started.done) / seconds / 1e6 : 0
    const bar = '█'.repeat(filled) + '░'.repeat(WIDTH - filled)
    this.#stream.write(`\r\x1b[K${bar} ${Math.floor(share * 100)} %  ${(done / 1e6).toFixed(1)} of ${(total / 1e6).toFixed(1)} MB  ${speed.toFixed(1)} MB/s`)
    this.#shown = true
  }

  /** Takes the bar away, so that a line can be printed. */
  clear () {
    if (this.#shown) this.#stream.write('\r\x1b[K')
    this.#shown = false
  }
}

module.exports = { ProgressBar }
