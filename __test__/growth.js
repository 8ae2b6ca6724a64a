'use strict'

// What stays behind in a process: makes and ends nodes, moves files, and measures whether memory, handles, threads and
// files of the state folder grow after the first rounds. Ends with 1 where one does.
//
//   npm run test:growth -- [--nodes N] [--transfers N] [--verbose]

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { parseArgs } = require('node:util')
const { createNode } = require('..')
const { Forks } = require('./fixtures/forks')

/** Rounds that fill what is kept: pools, caches, the allocator's arenas. */
const WARM_UP = 100
/** What is kept for the next transfer goes within this, in milliseconds: connections, records that expire. */
const SETTLE_MS = 15_000
/** How much longer a busy machine may take. */
const SLACK_MS = 45_000
const LOOK_MS = 500
/** How long what a transfer has left is remembered here, in milliseconds, so that it goes while this looks. */
const KEPT_MS = 2000
/** Receipts that are kept: fewer than even a short run makes before this looks first. */
const KEPT_RECEIPTS = 8
/** Bytes of a file. */
const SIZE = 2000
/** Transfers at once. */
const PARALLEL = 8

/**
 * How much each may be more at the end than after the first rounds, in what it is counted in. The allocator and the
 * garbage collector keep some megabytes more or less; the runtime adds threads as it needs them, up to a bound.
 */
const LIMITS = { memory: 24 * 1024 * 1024, handles: 8, threads: 8, files: 8 }

async function main () {
  const { values } = parseArgs({
    options: {
      nodes: { type: 'string', default: '1000' },
      transfers: { type: 'string', default: '10000' },
      verbose: { type: 'boolean', default: false }
    }
  })
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-growth-'))
  const forks = new Forks()
  try {
    const { url } = await forks.hub(path.join(folder, 'hub'))
    const lab = new Lab(folder, url, values.verbose)
    const nodes = await lab.measure('nodes', Number(values.nodes), () => lab.node())
    const transfers = await lab.measure('transfers', Number(values.transfers), () => lab.transfer())
    await lab.end()
    process.exitCode = nodes && transfers ? 0 : 1
  } finally {
    await forks.end(hub => hub.send({ end: true }))
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** A sender and a receiver in this process, and what they have of it. */
class Lab {
  #folder
  #url
  #verbose
  #ends = null
  #count = 0

  constructor (folder, url, verbose) {
    this.#folder = folder
    this.#url = url
    this.#verbose = verbose
  }

  /** Whether nothing grew in so many rounds. */
  async measure (what, rounds, round) {
    if (rounds === 0) return true
    const began = Date.now()
    const warmUp = Math.min(WARM_UP, rounds / 2)
    await this.#rounds(warmUp, round)
    const before = await this.#settled()
    await this.#rounds(rounds - warmUp, round)
    const after = await this.#settled(before)
    const grown = Object.entries(LIMITS).map(([name, limit]) => ({ name, isTooMuch: after[name] - before[name] > limit }))
    const list = grown.map(({ name, isTooMuch }) => `${name} ${before[name]} → ${after[name]}${isTooMuch ? ' GREW' : ''}`)
    console.log(`${rounds} ${what} in ${((Date.now() - began) / 1000).toFixed(0)} s: ${list.join(', ')}`)
    return !grown.some(({ isTooMuch }) => isTooMuch)
  }

  /** One node that comes, does what nodes do, and goes. */
  async node () {
    const { filePath } = await this.#start()
    const node = await this.#createNode('passing')
    node.watch({ saveDir: path.join(this.#folder, 'passing') })
    await node.send({ filePath, recipientId: 'receiver' })
    await node.destroy()
    return 1
  }

  /** A few transfers at once; how many. */
  async transfer () {
    const { sender, filePath } = await this.#start()
    await Promise.all(Array.from({ length: PARALLEL }, () => sender.send({ filePath, recipientId: 'receiver' })))
    return PARALLEL
  }

  async end () {
    const { sender, receiver } = await this.#start()
    await Promise.all([sender.destroy(), receiver.destroy()])
  }

  async #start () {
    if (this.#ends) return this.#ends
    const filePath = path.join(this.#folder, 'file')
    fs.writeFileSync(filePath, Buffer.alloc(SIZE, 7))
    const [sender, receiver] = [await this.#createNode('sender'), await this.#createNode('receiver')]
    // Every file goes to the same place: what arrives is not what is measured.
    receiver.on('file', ({ accept }) => accept(path.join(this.#folder, `arrived-${this.#count++ % (2 * PARALLEL)}`)))
    receiver.watch()
    this.#ends = { sender, receiver, filePath }
    return this.#ends
  }

  #createNode (actorId) {
    const home = path.join(this.#folder, 'home')
    return createNode({ atsUrl: this.#url, actorId, home, timeout: 60_000, maxPartialAge: KEPT_MS, keepReceipts: KEPT_RECEIPTS })
  }

  async #rounds (count, round) {
    for (let done = 0; done < count;) done += await round()
  }

  /** The least of each that is there once nothing more goes; `enough` is as good as that. */
  async #settled (enough = null) {
    const least = await this.#sample()
    const isEnough = () => enough && Object.entries(LIMITS).every(([name, limit]) => least[name] <= enough[name] + limit / 2)
    for (const end = Date.now() + SETTLE_MS + (enough ? SLACK_MS : 0); Date.now() < end && !isEnough();) {
      await sleep(LOOK_MS)
      const sample = await this.#sample()
      if (this.#verbose) console.log(JSON.stringify(sample))
      for (const name in least) least[name] = Math.min(least[name], sample[name])
    }
    return least
  }

  async #sample () {
    // What has a finalizer goes in a turn of its own.
    for (let turn = 0; turn < 3; turn++) {
      global.gc()
      await sleep(1)
    }
    return {
      memory: process.memoryUsage.rss(),
      handles: entries('/proc/self/fd'),
      threads: entries('/proc/self/task'),
      files: fs.readdirSync(path.join(this.#folder, 'home'), { recursive: true }).length
    }
  }
}

/** Entries of a folder of Linux; elsewhere there are none to count. */
function entries (folder) {
  return fs.existsSync(folder) ? fs.readdirSync(folder).length : 0
}

main()
