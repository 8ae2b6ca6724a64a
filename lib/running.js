'use strict'

// What runs in this process besides nodes, until it is closed.

const { LONGEST_TIMER_MS } = require('./checks')
const { wrap } = require('./error')

/** What runs in this process, and keeps it alive, until it is closed. */
class Running {
  #native
  #closed = null
  #alive = setInterval(() => {}, LONGEST_TIMER_MS)

  constructor (native) {
    this.#native = native
  }

  close () {
    clearInterval(this.#alive)
    this.#closed ??= this.#native.close().catch((error) => { throw wrap(error) })
    return this.#closed
  }

  async [Symbol.asyncDispose] () {
    await this.close()
  }
}

/** A task service and a private DHT in this process. */
class Hub extends Running {
  constructor (native) {
    super(native)
    this.urls = native.urls()
    this.url = this.urls[0]
    this.address = native.address()
    this.bootstrap = native.bootstrap()
    this.relay = native.relay() ?? null
  }
}

/** A node of the DHT in this process. */
class DhtNode extends Running {
  #native

  constructor (native) {
    super(native)
    this.#native = native
    this.address = native.address()
    this.reachable = native.reachable()
    this.nodes = native.nodes()
  }

  reached () {
    return this.#native.reached()
  }
}

/** A place on the network that the doctor of another machine finds by its key. */
class Waiting extends Running {
  #native

  constructor (native) {
    super(native)
    this.#native = native
    this.key = native.key()
  }

  async * [Symbol.asyncIterator] () {
    for (let peer = await this.#native.next(); peer; peer = await this.#native.next()) yield peer
  }
}

module.exports = { DhtNode, Hub, Waiting }
