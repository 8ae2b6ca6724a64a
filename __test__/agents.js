'use strict'

// Many agents on one hub for a long time: one of them sends a small file to another at a steady pace. Prints what the
// processes hold and how long the files took, and ends with 1 where that grew, or where a file did not arrive. What a
// process holds is read from /proc.
//
//   npm run test:agents -- [--agents N] [--seconds N] [--every MS]

const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { parseArgs } = require('node:util')
const { Forks } = require('./fixtures/forks')

const PROCESSES = 8
/** Parts of the whole time. The second is held against the last: in the first one pools and caches fill. */
const PARTS = 6
/** How much more all processes of the agents, or the hub, may hold at the end. */
const LIMITS = { memory: 48 * 1024 * 1024, files: 64, threads: 32 }
/** What a node holds of a peer once it has met that, at most: 3.1 kB measured. They meet more the longer this runs. */
const PEER_MEMORY = 4 * 1024
/** How much longer a file may take at the end: a factor, and milliseconds that a busy machine adds. */
const SLOWER = { p50: [1.5, 20], p99: [2, 500] }
/** How long a part has to last for its times to say something of this program, and not of what else the machine did. */
const TELLING_MS = 60_000

async function main () {
  const { values } = parseArgs({
    options: {
      agents: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '3600' },
      every: { type: 'string', default: '100' }
    }
  })
  const lab = new Lab()
  try {
    await lab.start(Number(values.agents))
    const parts = []
    const partMs = Number(values.seconds) * 1000 / PARTS
    for (let i = 1; i <= PARTS; i++) parts.push(await lab.part(i, partMs, Number(values.every)))
    process.exitCode = isFlat(parts[1], parts.at(-1), partMs >= TELLING_MS ? SLOWER : {}) && parts.every(({ failed }) => failed === 0) ? 0 : 1
  } finally {
    await lab.end()
  }
}

class Lab {
  #folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-agents-'))
  #forks = new Forks()
  #hub
  #homes = new Map()
  #under = new Map()
  /** Who knows whom. */
  #met = new Set()
  #count = 0

  async start (agents) {
    const { child: hub, url } = await this.#forks.hub(path.join(this.#folder, 'hub'))
    this.#hub = mustEndWell(hub)
    const names = Array.from({ length: agents }, (_, i) => `agent-${i}`)
    for (let i = 0; i < Math.min(PROCESSES, agents); i++) {
      const folder = path.join(this.#folder, `${i}`)
      fs.mkdirSync(folder)
      const own = names.filter((_, at) => at % PROCESSES === i)
      const child = mustEndWell(this.#forks.fork(path.join('agents', 'agents.js'), { AGENTS: JSON.stringify({ url, folder, names: own }) }))
      await once(child, 'message')
      child.on('message', message => this.#sent(message))
      for (const name of own) this.#homes.set(name, child)
    }
  }

  /** Sends for so long; what is held at the end of that, and what became of the files. */
  async part (number, time, every) {
    const took = []
    let failed = 0
    const waiting = []
    for (const end = performance.now() + time; performance.now() < end;) {
      const next = sleep(every)
      waiting.push(this.#send().then(({ ms, failed: why }) => {
        if (why === undefined) return took.push(ms)
        failed++
        console.log(`did not arrive at ${why}`)
      }))
      await next
    }
    await Promise.all(waiting)
    took.sort((a, b) => a - b)
    const at = share => took[Math.min(took.length - 1, Math.floor(share * took.length))]
    const agents = [...new Set(this.#homes.values())].map(held).reduce(sum)
    const part = { failed, p50: at(0.5), p99: at(0.99), agents, hub: held(this.#hub), met: this.#met.size }
    console.log(`${number} of ${PARTS}: ${took.length} files, p50 ${part.p50.toFixed(1)} ms, p99 ${part.p99.toFixed(1)} ms, ${failed} failed; hub ${shown(part.hub)}; agents ${shown(agents)}, who know ${part.met} peers in all`)
    return part
  }

  async end () {
    await this.#forks.end(child => child.send({ end: true }))
    fs.rmSync(this.#folder, { recursive: true, force: true })
  }

  /** One agent sends to another. */
  #send () {
    const names = [...this.#homes.keys()]
    const from = Math.floor(Math.random() * names.length)
    const to = (from + 1 + Math.floor(Math.random() * (names.length - 1))) % names.length
    this.#met.add(`${from} ${to}`).add(`${to} ${from}`)
    const id = ++this.#count
    const settled = new Promise(resolve => this.#under.set(id, resolve))
    this.#homes.get(names[from]).send({ send: { from: names[from], to: names[to], id } })
    return settled
  }

  #sent ({ id, ms, failed }) {
    this.#under.get(id)({ ms, failed })
    this.#under.delete(id)
  }
}

/** Nothing that was measured counts where a process ended by a failure of its own. */
function mustEndWell (child) {
  return child.once('exit', (code) => {
    if (code !== 0) throw new Error(`${child.spawnargs.join(' ')} ended with ${code}`)
  })
}

/** What a process holds. */
function held ({ pid }) {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
  const number = name => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)[1])
  return { memory: number('VmRSS') * 1024, files: fs.readdirSync(`/proc/${pid}/fd`).length, threads: number('Threads') }
}

function sum (a, b) {
  return { memory: a.memory + b.memory, files: a.files + b.files, threads: a.threads + b.threads }
}

function shown ({ memory, files, threads }) {
  return `${(memory / 1024 / 1024).toFixed(0)} MB, ${files} files, ${threads} threads`
}

/** Whether nothing of one part grew until the other, of the times those in `slower`. Says what did. */
function isFlat (before, after, slower) {
  const grown = []
  for (const whose of ['hub', 'agents']) {
    for (const [name, limit] of Object.entries(LIMITS)) {
      const known = whose === 'agents' && name === 'memory' ? PEER_MEMORY * (after.met - before.met) : 0
      if (after[whose][name] - before[whose][name] > limit + known) grown.push(`${name} of ${whose}`)
    }
  }
  for (const [name, [factor, slack]] of Object.entries(slower)) {
    if (after[name] > factor * before[name] + slack) grown.push(`${name} of the time that a file takes`)
  }
  for (const what of grown) console.log(`GREW: ${what}`)
  return grown.length === 0
}

main()
