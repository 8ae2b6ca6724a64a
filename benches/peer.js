'use strict'

// One end of the measured transfers, as a process of its own: this package, or a JavaScript peer of the
// original's kind. The parent calls it over the process's message channel, `{ id, call, args }`, and gets
// `{ id, result }` or `{ id, error }`. Moments are milliseconds of the machine's clock, so that those of two
// processes can be compared.

const fs = require('node:fs')

/** How long a peer waits for the other at most, in milliseconds. For a JavaScript peer that is the whole transfer. */
const TIMEOUT_MS = 240_000

const now = () => performance.timeOrigin + performance.now()

/** This package, through its public API. */
class Ours {
  #node
  #expected = null
  #connected = new Map()

  async start ({ url, actorId, home }) {
    const { createNode } = require('..')
    this.#node = await createNode({ atsUrl: url, actorId, home, timeout: TIMEOUT_MS })
    this.#node.on('error', (error) => { throw error })
    this.#node.on('transfer_start', ({ transferId }) => this.#connected.set(transferId, now()))
    this.#node.on('file', (offer) => this.#take(offer))
  }

  /** From now on offers are seen; `receive` says what becomes of them. */
  async listen () {
    const connected = new Promise(resolve => this.#node.once('connected', resolve))
    this.#node.watch()
    await connected
  }

  async #take (offer) {
    const claimed = now()
    const { saveDir, left, done } = this.#expected
    try {
      const { filePath, hash, transferId } = await offer.accept({ saveDir })
      left.push({ claimed, connected: this.#connected.get(transferId), verified: now(), filePath, hash })
    } catch (error) {
      return done(error)
    }
    done()
  }

  receive ({ saveDir, count }) {
    return new Promise((resolve, reject) => {
      const left = []
      const done = (error) => error ? reject(error) : left.length === count && resolve(left)
      this.#expected = { saveDir, left, done }
    })
  }

  /** Several as one offer, where `file` names them; to several by one call, where `to` does. */
  async send ({ file, to }) {
    const started = now()
    const what = Array.isArray(file) ? { filePaths: file } : { filePath: file }
    const results = await this.#node.send({ ...what, ...Array.isArray(to) ? { recipientIds: to } : { recipientId: to } })
    for (const { error } of [results].flat()) if (error) throw error
    return now() - started
  }

  close () {
    return this.#node.destroy()
  }
}

/** The JavaScript peer that the tests use too. */
class JavaScript {
  #peer
  #claimed
  #connected

  async start ({ url, bootstrap, actorId, host }) {
    const { OriginalPeer } = require('../__test__/fixtures/original-peer.js')
    const nodes = bootstrap.map(address => ({ host: address.split(':')[0], port: Number(address.split(':')[1]) }))
    const peer = new OriginalPeer({ atsUrl: url, actorId, bootstrap: nodes, host, lookAgainMs: 1000 })
    this.#peer = peer
    const claim = peer.ats.claim
    peer.ats.claim = (id) => {
      this.#claimed = now()
      this.#connected = undefined
      return claim.call(peer.ats, id)
    }
    peer.swarm.on('connection', () => { this.#connected ??= now() })
  }

  async listen () {}

  async receive ({ saveDir, count }) {
    const received = []
    while (received.length < count) {
      const [{ filePath, hash }] = await this.#peer.receive({ saveDir, timeout: TIMEOUT_MS })
      received.push({ claimed: this.#claimed, connected: this.#connected, verified: now(), filePath, hash })
    }
    return received
  }

  async send ({ file, to }) {
    const started = now()
    await this.#peer.send({ filePath: file, recipientId: to, timeout: TIMEOUT_MS })
    return now() - started
  }

  close () {
    return this.#peer.close()
  }
}

const peer = process.argv[2] === 'ours' ? new Ours() : new JavaScript()

const calls = {
  start: args => peer.start(args),
  listen: () => peer.listen(),
  receive: args => peer.receive(args),

  /** Each file once, `parallel` of them under way at a time; the milliseconds that each took. */
  async send ({ files, to, parallel = 1 }) {
    const waiting = [...files]
    const took = []
    const worker = async () => {
      for (let file = waiting.shift(); file; file = waiting.shift()) took.push(await peer.send({ file, to }))
    }
    await Promise.all(Array.from({ length: parallel }, worker))
    return took
  },

  /** Peak memory is counted from here on; the bytes held now. */
  idle () {
    global.gc?.()
    // Linux: sets the peak back to what is held now (proc(5), clear_refs).
    fs.writeFileSync('/proc/self/clear_refs', '5')
    return memory('VmRSS')
  },

  /** Seconds of processor time of the whole process so far, in user space and in the kernel; peak memory. */
  usage () {
    const { user, system } = process.cpuUsage()
    return { cpu: (user + system) / 1e6, peak: memory('VmHWM') }
  },

  close: () => peer.close()
}

/** A line of /proc/self/status, in bytes; NaN where there is no such file. */
function memory (name) {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readOr('/proc/self/status', ''))
  return found ? Number(found[1]) * 1024 : NaN
}

function readOr (path, otherwise) {
  try {
    return fs.readFileSync(path, 'utf8')
  } catch {
    return otherwise
  }
}

process.on('message', async ({ id, call, args }) => {
  try {
    process.send({ id, result: await calls[call](args) })
  } catch (error) {
    process.send({ id, error: error.stack ?? String(error) })
  }
  if (call === 'close') process.disconnect()
})

// Without a parent there is nobody to measure for.
process.on('disconnect', () => process.exit())
// The terminal's Ctrl-C is for the parent, which ends this process.
process.on('SIGINT', () => {})
