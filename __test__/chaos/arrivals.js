'use strict'

// Looks into the receiver's folder again and again: whatever has a name there has to be a file that was sent, whole.

const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')

const PAUSE_MS = 200

class Arrivals {
  /** What is wrong in the folder. */
  wrong = []
  #folder
  #known
  #seen = new Map()
  #ending = false
  #done

  /** `known(name)` is the `{ size, hash }` of what was sent under a name. */
  constructor (folder, known) {
    this.#folder = folder
    this.#known = known
    this.#done = this.#watch()
  }

  /** How often a file of this name has arrived. */
  count (name) {
    return this.#seen.get(name) ?? 0
  }

  /** Looks once more, and ends. */
  async end () {
    this.#ending = true
    await this.#done
    await this.#look()
  }

  /** Temporary files that lie in the folder. */
  temporary () {
    return fs.readdirSync(this.#folder).filter(name => name.startsWith('.'))
  }

  async #watch () {
    while (!this.#ending) {
      await this.#look()
      await sleep(PAUSE_MS)
    }
  }

  async #look () {
    for (const found of fs.readdirSync(this.#folder)) {
      if (found.startsWith('.') || this.#seen.has(found)) continue
      // A name that is taken gets a number.
      const name = found.replace(/ \(\d+\)(?=\.bin$)/, '')
      this.#seen.set(found, 1)
      if (name !== found) this.#seen.set(name, this.count(name) + 1)
      const sent = this.#known(name)
      const hash = await sha256(path.join(this.#folder, found))
      if (hash !== sent?.hash) this.wrong.push(`${found} is not the file that was sent: its SHA-256 is ${hash}`)
    }
  }
}

async function sha256 (file) {
  const hash = crypto.createHash('sha256')
  for await (const chunk of fs.createReadStream(file)) hash.update(chunk)
  return hash.digest('hex')
}

module.exports = { Arrivals }
