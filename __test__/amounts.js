'use strict'

// Hostile amounts: what strangers do in numbers takes no more memory than is said here, and an honest transfer beside it
// gets its place in time and goes at no less than half its speed. Ends with 1 where that does not hold.
//
//   npm run test:amounts -- [--offers N] [--connections N] [--ends N] [--size MB]

const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { AtsHttp } = require('./fixtures/ats-http')
const { Forks } = require('./fixtures/forks')

/** What strangers may make a node hold, in bytes. */
const MEMORY = 100 * 1024 * 1024
/** How much slower an honest transfer may be beside them, and what a busy machine adds, in milliseconds. */
const SLOWER = 2
const SLACK_MS = 500
/** How long it may wait for its place, from the offer to the first byte, in milliseconds. */
const WAIT_MS = 2000
/** Whom the hub believes where a request comes from. */
const PROXY = '127.0.0.2'
/** Offers posted at once. */
const AT_ONCE = 20

async function main () {
  const { values } = parseArgs({
    options: {
      offers: { type: 'string', default: '10000' },
      connections: { type: 'string', default: '1000' },
      ends: { type: 'string', default: '10000' },
      size: { type: 'string', default: '256' }
    }
  })
  const lab = new Lab()
  try {
    await lab.start(Number(values.size) * 1024 * 1024)
    const alone = await lab.baseline('honest')
    const byTunnel = await lab.baseline('inside')
    const rows = [
      await lab.row(`${values.offers} offers`, alone, 'receiver', () => lab.offers(Number(values.offers))),
      await lab.row(`${values.connections} connections to the key of a sender`, alone, 'honest', () => lab.dialSender(Number(values.connections))),
      await lab.row(`${values.connections} connections on the topic of a receiver`, alone, 'receiver', () => lab.dialReceiver(Number(values.connections))),
      await lab.row(`${values.ends} ends at the tunnel that prove nothing`, byTunnel, 'hub', () => lab.enterTunnel(Number(values.ends)), 'inside')
    ]
    process.exitCode = rows.every(Boolean) ? 0 : 1
  } finally {
    await lab.end()
  }
}

class Lab {
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-amounts-'))
  #forks = new Forks()
  #hub
  #agents = {}
  #file

  async start (size) {
    this.#hub = await this.#forks.hub(path.join(this.#folder, 'hub'), { trustedProxies: [`${PROXY}/32`] })
    this.#file = path.join(this.#folder, 'file.bin')
    fs.writeFileSync(this.#file, crypto.randomBytes(size))
    for (const actorId of ['receiver', 'honest', 'inside']) {
      const saveDir = actorId === 'receiver' ? path.join(this.#folder, 'in') : undefined
      // No UDP leads out of where one of them is.
      const bootstrap = actorId === 'inside' ? ['127.0.0.1:9'] : undefined
      const options = { bootstrap, atsUrl: this.#hub.url, actorId, home: path.join(this.#folder, actorId), timeout: 60_000 }
      this.#agents[actorId] = this.#forks.fork(path.join('amounts', 'agent.js'), { AMOUNTS_AGENT: JSON.stringify({ options, saveDir }) })
      await says(this.#agents[actorId], 'up')
    }
  }

  /** How long the honest transfer takes alone, in milliseconds, after one that warms up. */
  async baseline (sender) {
    await this.#transfer(sender)
    return Math.min((await this.#transfer(sender)).ms, (await this.#transfer(sender)).ms)
  }

  /** Whether the honest transfer, and the memory of one end, bear what strangers do; `attack` ends with what ends it. */
  async row (name, alone, whose, attack, sender = 'honest') {
    const before = await this.#memory(whose)
    const { told, stop } = await attack()
    const during = await this.#memory(whose)
    const transfers = [await this.#transfer(sender), await this.#transfer(sender)]
    const ms = Math.min(...transfers.map(({ ms }) => ms))
    const waited = Math.max(...transfers.map(({ waited }) => waited))
    const after = await this.#memory(whose)
    await stop()
    const taken = Math.max(during, after) - before
    const isGood = taken <= MEMORY && ms <= SLOWER * alone + SLACK_MS && waited <= WAIT_MS
    const mb = bytes => (bytes / 1024 / 1024).toFixed(0)
    console.log(`${name} (${told}): ${mb(taken)} MB more, at most ${mb(MEMORY)}; the honest transfer took ${ms.toFixed(0)} ms, alone ${alone.toFixed(0)}, and waited at most ${waited.toFixed(0)} ms${isGood ? '' : ' TOO MUCH'}`)
    return isGood
  }

  /** Offers that nobody answers. */
  async offers (count) {
    let left = count
    const post = async () => {
      while (left-- > 0) await this.#offer()
    }
    await Promise.all(Array.from({ length: AT_ONCE }, post))
    return { told: `${count} posted`, stop: async () => {} }
  }

  /** Connections to the key that the honest sender's next offer names. */
  async dialSender (count) {
    const receiver = this.#agents.receiver
    const offered = says(receiver, 'offered')
    this.#agents.receiver.kill('SIGSTOP')
    const settled = says(this.#agents.honest, 'settled')
    this.#agents.honest.send({ send: this.#file })
    const key = await this.#key()
    const strangers = await this.#strangers({ key, count })
    receiver.kill('SIGCONT')
    await offered
    const { failed } = await settled
    if (failed) throw new Error(`the honest transfer failed: ${failed}`)
    return strangers
  }

  /** Connections on the topic that the receiver is on, for an offer of an original that never comes. */
  async dialReceiver (count) {
    const transferId = await this.#offer({ sender_id: 'original' })
    const topic = crypto.createHash('sha256').update(transferId).digest('hex')
    return this.#strangers({ topic, count })
  }

  /** Ends at the hub's tunnel. */
  enterTunnel (count) {
    const ends = { url: this.#hub.url, count, proxy: PROXY, client: '203.0.113.66' }
    return this.#crowd(this.#forks.fork(path.join('amounts', 'ends.js'), { AMOUNTS_ENDS: JSON.stringify(ends) }))
  }

  async end () {
    await this.#forks.end(child => child.kill('SIGKILL'))
    fs.rmSync(this.#folder, { recursive: true, force: true })
  }

  #strangers (what) {
    return this.#crowd(this.#forks.fork(path.join('amounts', 'strangers.js'), { AMOUNTS_STRANGERS: JSON.stringify({ bootstrap: this.#hub.bootstrap, ...what }) }))
  }

  /** Waits until all of them came; `stop` ends them. */
  async #crowd (child) {
    const { opened, refused } = await says(child, 'dialled')
    const stop = async () => {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    return { told: `${opened} opened, ${refused} refused`, stop }
  }

  /** Posts an offer of an original's kind to the receiver; its transfer id. */
  async #offer (more = {}) {
    const transferId = crypto.randomUUID()
    const payload = { transfer_id: transferId, filename: 'f.bin', size: 1000, hash: '0'.repeat(64), sender_id: 'flood', recipient_id: 'receiver', ...more }
    const ats = new AtsHttp(this.#hub.url, payload.sender_id)
    await ats.create({ title: 'A file', type: 'file_offer', channel: 'p2p-transfer', description: transferId, payload })
    return transferId
  }

  /** The key in the offer of the honest sender that is open. */
  async #key () {
    const ats = new AtsHttp(this.#hub.url, 'anybody')
    for (;;) {
      const tasks = await ats.list({ status: 'pending', limit: 500, sort_by: 'created_at', sort_dir: 'desc' })
      const key = tasks.find(({ source_id: source }) => source === 'honest')?.payload.p2p?.key
      if (key) return key
    }
  }

  async #transfer (sender) {
    const settled = says(this.#agents[sender], 'settled')
    this.#agents[sender].send({ send: this.#file })
    const { waited, ms, failed } = await settled
    if (failed) throw new Error(`the honest transfer failed: ${failed}`)
    return { waited, ms }
  }

  async #memory (actorId) {
    if (actorId === 'hub') {
      this.#hub.child.send({ memory: true })
      return (await says(this.#hub.child, 'memory')).bytes
    }
    this.#agents[actorId].send({ memory: true })
    return (await says(this.#agents[actorId], 'memory')).bytes
  }
}

/** The next message of this kind. */
function says (child, event) {
  return new Promise((resolve, reject) => {
    const hear = (message) => {
      if (message.event !== event) return
      child.off('message', hear).off('exit', gone)
      resolve(message)
    }
    const gone = () => reject(new Error(`a process ended before it said "${event}"`))
    child.on('message', hear).once('exit', gone)
  })
}

main()
