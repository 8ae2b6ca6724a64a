'use strict'

// One run: sends what the plan says, has happen what it says when a transfer gets that far, and judges what came of it.

const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { Arrivals } = require('./arrivals')
const { KINDS, plan } = require('./plan')
const { judge } = require('./verdict')
const { TIMEOUT_MS, World } = require('./world')

/** Transfers at once. */
const PARALLEL = 4
/** How long a claim holds whose owner is gone, in milliseconds. */
const LEASE_MS = 60_000
/** What a busy machine may add to a wait that has an end. */
const SLACK_MS = 20_000
/** How long what an interrupted transfer has left is kept at the end, in milliseconds. */
const EXPIRY_MS = 1000
const MB = 1024 * 1024
const DISK_MARGIN = 64 * MB

/**
 * Runs it, and resolves with `{ ok, summary, problems, folder }`. The folder, with the logs of all processes, is left
 * there where something was wrong, and with `keep`.
 */
async function run ({ seed, transfers: count, minutes, largest = 500 * MB, keep = false, say = () => {} }) {
  const missing = World.missing()
  if (missing.why) say(`without ${missing.kinds.join(', ')}: ${missing.why}`)
  const kinds = Object.keys(KINDS).filter(kind => !missing.kinds.includes(kind))
  const planned = plan({ seed, transfers: count, largest, kinds })
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-chaos-'))
  const running = new Run(folder, planned, Date.now() + minutes * 60_000, say)
  try {
    await running.go()
  } finally {
    await running.end()
  }
  const { problems, summary } = judge(running)
  if (problems.length === 0 && !keep) fs.rmSync(folder, { recursive: true, force: true })
  return { ok: problems.length === 0, summary: `seed ${seed}: ${summary}`, problems, folder }
}

class Run {
  began = Date.now()
  transfers
  /** What should not have happened, found while it ran. */
  problems = []
  /** How often each kind of interruption came about. */
  happened = {}
  arrivals
  /** Bytes that the sender's machine sent; null where they are not counted. */
  bytesSent = null
  #folder
  #deadline
  #say
  #world
  #waiting
  #chains = {}
  #open = { asked: 0, tasks: [] }
  #next = 0
  #log

  constructor (folder, { transfers, interruptions }, deadline, say) {
    this.#folder = folder
    this.#deadline = deadline
    this.#say = say
    this.transfers = transfers.map(transfer => ({ ...transfer, state: 'planned', far: 0, outcome: null, isOrphan: false, isResumed: false }))
    this.#waiting = new Set(interruptions)
    this.#world = new World(folder)
    this.#log = fs.createWriteStream(path.join(this.#world.logs, 'events.jsonl'))
  }

  async go () {
    const bytes = this.transfers.reduce((sum, { size }) => sum + size, 0) + 3 * Math.max(...this.transfers.map(({ size }) => size)) + DISK_MARGIN
    await this.#world.start({
      bytes,
      hear: {
        sender: message => this.#hear('sender', message),
        receiver: message => this.#hear('receiver', message),
        observer: message => this.#observe(message)
      },
      crashed: why => this.#fault(why)
    })
    const byName = new Map(this.transfers.map(transfer => [transfer.name, transfer]))
    this.arrivals = new Arrivals(this.#world.saveDir, name => byName.get(name))
    const before = this.#world.sent()
    await Promise.all(Array.from({ length: PARALLEL }, () => this.#send()))
    await Promise.all(Object.values(this.#chains))
    await this.#settle()
    if (before !== null) this.bytesSent = this.#world.sent() - before
    await this.#expire()
    await this.arrivals.end()
  }

  async end () {
    await this.#world.end()
    await new Promise(resolve => this.#log.end(resolve))
  }

  /** Sends one file after the other, until all are sent or the time is over. */
  async #send () {
    while (this.#next < this.transfers.length && Date.now() < this.#deadline) {
      const transfer = this.transfers[this.#next++]
      const filePath = path.join(this.#folder, transfer.name)
      transfer.hash = await makeFile(filePath, transfer)
      transfer.state = 'sent'
      while (!this.#world.member('sender').say({ send: { name: transfer.name, filePath } })) await sleep(50)
      while (!transfer.outcome && !transfer.isOrphan) await sleep(20)
      this.#reach(transfer, 'ended', Infinity)
    }
  }

  /**
   * Waits until no offer is claimed at the hub and none that was gone on with is under way, or it is too late. One that
   * nobody claims, and whose sender is gone, the hub keeps for some minutes.
   */
  async #settle () {
    const began = Date.now()
    const end = began + TIMEOUT_MS + LEASE_MS + SLACK_MS
    const claimed = () => this.#open.tasks.filter(({ status }) => status === 'in_progress').map(({ name }) => name)
    const isUnderWay = ({ isResumed, outcome }) => isResumed && !outcome
    while (this.#open.asked <= began || claimed().length > 0 || this.transfers.some(isUnderWay)) {
      if (Date.now() > end) {
        if (this.#open.asked <= began) this.#fault('the hub is not reached any more')
        if (claimed().length > 0) this.#fault(`still claimed at the hub: ${claimed().join(', ')}`)
        return
      }
      await sleep(100)
    }
  }

  /** Has the receiver keep nothing for long, and waits until it has removed what interrupted transfers left. */
  async #expire () {
    await this.#world.replaceReceiver({ maxPartialAge: EXPIRY_MS })
    const end = Date.now() + EXPIRY_MS + SLACK_MS
    for (let left; (left = this.arrivals.temporary()).length > 0; await sleep(100)) {
      if (Date.now() > end) return this.#fault(`still there after their expiry: ${left.join(', ')}`)
    }
  }

  #hear (from, message) {
    if (message.event !== 'transfer_progress') this.#note({ from, ...message })
    if (message.event === 'error') this.#fault(`the ${from} had an error: ${message.message}`)
    const transfer = this.transfers.find(({ name }) => name === message.fileName)
    if (!transfer) return
    if (message.event === 'settled') this.#end(transfer, message)
    if (message.event === 'offer_sent') this.#reach(transfer, 'offered', 0)
    if (message.event === 'transfer_start') this.#reach(transfer, 'started', 0)
    if (message.phase === 'transferring') this.#reach(transfer, null, message.bytes / Math.max(message.totalBytes, 1))
    if (message.event === 'offer_resumed') transfer.isResumed = true
    // A sender that takes up its own offers has nobody who waits for the call.
    if (from === 'sender' && transfer.isOrphan) {
      if (message.event === 'transfer_complete') this.#end(transfer, { hash: message.fileHash })
      if (message.event === 'transfer_failed') this.#end(transfer, { code: message.code, message: message.reason })
    }
  }

  #end (transfer, { hash, code, message }) {
    transfer.outcome ??= { hash, code, message }
    fs.rmSync(path.join(this.#folder, transfer.name), { force: true })
  }

  /** Begins what waits for this transfer to get so far. */
  #reach (transfer, moment, part) {
    for (const interruption of this.#waiting) {
      const { transfer: id, at } = interruption
      if (id !== transfer.id) continue
      if (moment !== 'ended' && (typeof at === 'number' ? part < at : at !== moment)) continue
      this.#waiting.delete(interruption)
      const before = this.#chains[interruption.target] ?? Promise.resolve()
      this.#chains[interruption.target] = before.then(() => this.#interrupt(interruption)).catch(error => this.#fault(error.stack))
    }
  }

  async #interrupt ({ kind, at, ms, transfer }) {
    this.happened[kind] = (this.happened[kind] ?? 0) + 1
    this.#note({ interruption: kind, forMs: ms, transfer, at })
    const undo = await this.#world.interrupt(kind)
    if (kind === 'kill sender') {
      for (const transfer of this.transfers) {
        transfer.isOrphan ||= transfer.state === 'sent' && !transfer.outcome
        // The next one says so again where it goes on with it.
        transfer.isResumed = false
      }
    }
    await sleep(ms)
    await undo()
    this.#note({ over: kind })
  }

  #observe ({ event, asked, tasks }) {
    if (event !== 'open') return
    this.#open = { asked, tasks }
    for (const { name, lease } of tasks) {
      if (lease && Date.parse(lease) + SLACK_MS < asked) this.#fault(`${name} stays claimed after its lease has ended at ${lease}`)
    }
  }

  #fault (problem) {
    if (!this.problems.includes(problem)) this.problems.push(problem)
    this.#note({ problem })
  }

  #note (what) {
    const line = JSON.stringify({ ms: Date.now() - this.began, ...what })
    if (this.#log.writable) this.#log.write(line + '\n')
    if (what.interruption || what.problem) this.#say(line)
  }
}

/** A file of bytes that nobody else has, and its SHA-256. */
async function makeFile (filePath, { id, size }) {
  const cipher = crypto.createCipheriv('aes-128-ctr', Buffer.alloc(16, id), crypto.randomBytes(16))
  const hash = crypto.createHash('sha256')
  const block = Buffer.alloc(MB)
  const handle = await fs.promises.open(filePath, 'w')
  for (let left = size; left > 0; left -= block.length) {
    const bytes = cipher.update(block.subarray(0, Math.min(left, block.length)))
    hash.update(bytes)
    await handle.write(bytes)
  }
  await handle.close()
  return hash.digest('hex')
}

module.exports = { run }
