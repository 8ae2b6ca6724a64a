'use strict'

// Whole peers, hub and DHT on both ends of an emulated link: crates/udx/examples/link.rs. Beside them scp, and what the
// emulator itself lets through.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { installed } = require('../session')
const { scp, timed } = require('./others')
const { freshTransfer, peers, transfer } = require('./transfer')

const ROOT = path.join(__dirname, '..', '..')
const EXAMPLES = path.join(ROOT, 'target', 'release', 'examples')
const PAIRS = [['ours', 'ours'], ['js', 'js'], ['ours', 'js'], ['js', 'ours']]
const MB = 1e6
/** Where the examples listen, in a namespace of their own. */
const PORT = 7000

// 208 KiB is what Linux gives a socket that asks for more, unless told otherwise.
const USUAL_BUFFER = 208 * 1024

const LINKS = [
  { id: 'link-0', rate: 100, rtt: 50, loss: 0 },
  { id: 'link-0.1', rate: 100, rtt: 50, loss: 0.1 },
  { id: 'link-1', rate: 100, rtt: 50, loss: 1 },
  { id: 'small-buffer', rate: 1000, rtt: 20, loss: 0, receiveBuffer: USUAL_BUFFER, size: 500 * MB, beside: true },
  { id: 'link-wide', rate: 1000, rtt: 100, loss: 0, size: 500 * MB, beside: true },
  { id: 'link-long', rate: 100, rtt: 200, loss: 2, size: 200 * MB, beside: true }
]

/** `beside`: with scp in the same run. */
const transfers = LINKS.map(({ id, size: full = 100 * MB, beside, ...kind }) => ({
  id,
  async measure (session, { quick, linkRuns }) {
    const missing = build()
    if (missing) return { missing }
    const size = quick ? 10 * MB : full
    const file = await session.file(size)
    const measured = { size, ...kind }
    for (let run = 0; run < linkRuns; run++) {
      for (const pair of PAIRS) {
        const name = pair.join('-')
        measured[name] ??= []
        measured[name].push(await overLink(session, { ...kind, seed: run + 1 }, async (a, b) => {
          const { bytes, seconds, connected, cpu } = await between(session, a, b, (hub, place) => freshTransfer(session, pair, [file], { hub, place }))
          return { bytes, seconds, connected, cpu }
        }))
      }
      if (!beside) continue
      if (!scp.programs.every(installed)) {
        measured.scp = { missing: scp.howTo }
        continue
      }
      measured.scp ??= []
      measured.scp.push(await overLink(session, { ...kind, seed: run + 1 }, async (a, b) => {
        const prepared = await scp.prepare(session, { host: a.address, namespace: a.namespace })
        const { receive } = await scp.send(session, file, prepared, { namespace: b.namespace })
        const seconds = await timed(session, 'scp', file, receive)
        await prepared.server.stop()
        return { bytes: size, seconds, connected: seconds }
      }))
    }
    return measured
  }
}))

/** Two transfers at once, each between processes of its own. */
const flows = {
  id: 'flows',
  async measure (session, { quick, linkRuns }) {
    const missing = build()
    if (missing) return { missing }
    const size = (quick ? 10 : 100) * MB
    const file = await session.file(size)
    const measured = { size, links: [] }
    for (const kind of [{ rate: 100, rtt: 50, loss: 0 }, { rate: 1000, rtt: 20, loss: 0, receiveBuffer: USUAL_BUFFER }]) {
      const runs = []
      for (let run = 0; run < linkRuns; run++) {
        runs.push(await overLink(session, { ...kind, seed: run + 1 }, (a, b) => between(session, a, b, async (hub, place) => {
          const made = [await peers(session, ['ours', 'ours'], { hub, place }), await peers(session, ['ours', 'ours'], { hub, place })]
          const files = Array(kind.rate / 100).fill(file)
          const took = await Promise.all(made.map(each => transfer(session, each, files, { check: false })))
          await Promise.all(made.map(each => each.stop()))
          return { bytes: size * files.length, seconds: took.map(({ seconds }) => seconds) }
        })))
      }
      measured.links.push({ ...kind, runs })
    }
    return measured
  }
}

/** Small messages that are answered, by themselves and beside a stream that sends all it can: example `throughput`. */
const beside = {
  id: 'beside',
  async measure (session, { quick, linkRuns }) {
    const missing = build()
    if (missing) return { missing }
    const seconds = quick ? 3 : 15
    const links = []
    for (const kind of [{ rate: 100, rtt: 50, loss: 0 }, { rate: 1000, rtt: 20, loss: 0, receiveBuffer: USUAL_BUFFER }]) {
      const runs = []
      for (let run = 0; run < linkRuns; run++) {
        const seed = run + 1
        const megabytes = Math.round(kind.rate / 8 * seconds)
        const [idle, other, same] = [
          await messages(session, { ...kind, seed }, ask => ask('ping', seconds)),
          await messages(session, { ...kind, seed }, async (ask) => {
            const [answers] = await Promise.all([ask('ping', seconds), ask('send', megabytes)])
            return answers
          }),
          await messages(session, { ...kind, seed }, ask => ask('send', megabytes, 0, 'ping'))
        ]
        runs.push({ idle, other, same })
      }
      links.push({ ...kind, runs })
    }
    return { links }
  }
}

/** What plain UDP and TCP get through the emulator, and what of the machine that takes: example `plain`. */
const emulator = {
  id: 'emulator',
  async measure (session, { quick, linkRuns }) {
    const missing = build()
    if (missing) return { missing }
    const kind = { rate: 1000, rtt: 20, loss: 0 }
    const measured = { ...kind, rtt: undefined, delay: kind.rtt, udp: [], tcp: [] }
    for (let run = 0; run < linkRuns; run++) {
      for (const [name, args] of [['udp', [kind.rate, quick ? 2 : 8]], ['tcp', [quick ? 100 : 1000]]]) {
        measured[name].push(await overLink(session, kind, async (a, b, link) => {
          const to = `${b.address}:${PORT}`
          const receiver = session.run(path.join(EXAMPLES, 'plain'), ['receive', to], { namespace: b.namespace })
          await receiver.line(/:/)
          const before = [process.hrtime.bigint(), busy(), spent(link.pid)]
          const output = await session.output(path.join(EXAMPLES, 'plain'), [name, to, ...args].map(String), { namespace: a.namespace })
          const seconds = Number(process.hrtime.bigint() - before[0]) / 1e9
          const result = { rate: Number(output), cores: (busy() - before[1]) / seconds, emulator: (spent(link.pid) - before[2]) / seconds }
          await receiver.stop()
          return result
        }))
      }
    }
    return measured
  }
}

/** The milliseconds within which 50 and 99 of 100 messages were answered. */
async function messages (session, kind, send) {
  const program = path.join(EXAMPLES, 'throughput')
  return overLink(session, kind, async (a, b) => {
    const to = `${b.address}:${PORT}`
    const receiver = session.run(program, ['receive', to], { namespace: b.namespace })
    await receiver.line(/:/)
    const output = await send((what, ...args) => session.output(program, [what, to, ...args].map(String), { namespace: a.namespace }))
    await receiver.stop()
    const [, p50, , p99] = /% *: (.*)/.exec(output)[1].split(' ').map(Number)
    return { p50, p99 }
  })
}

/** Makes a link, and what `use` makes of its ends. */
async function overLink (session, { rate, rtt, loss, receiveBuffer, seed = 1 }, use) {
  const options = ['--rate', rate, '--rtt', rtt, '--loss', loss, '--seed', seed]
  if (receiveBuffer) options.push('--receive-buffer', receiveBuffer)
  const link = session.run(path.join(EXAMPLES, 'link'), options.map(String), { stdin: 'pipe' })
  try {
    const { a, b } = JSON.parse(await link.line(/^\{"a"/))
    const before = [process.hrtime.bigint(), busy(), spent(link.pid)]
    const result = await use(a, b, link)
    const seconds = Number(process.hrtime.bigint() - before[0]) / 1e9
    return { load: { cores: (busy() - before[1]) / seconds, emulator: (spent(link.pid) - before[2]) / seconds }, ...result }
  } finally {
    link.stdin.end()
    await link.stop()
  }
}

/** A hub at one end, and where peers are for it. */
async function between (session, a, b, use) {
  const hub = await session.hub({ namespace: a.namespace, listen: a.address })
  try {
    return await use(hub, { sender: { namespace: a.namespace, host: a.address }, receiver: { namespace: b.namespace, host: b.address } })
  } finally {
    await hub.stop()
  }
}

/** Processor seconds that the machine was busy, and that a process took. */
const TICK = 100
function busy () {
  const [user, nice, system, , , interrupt, softInterrupt] = fs.readFileSync('/proc/stat', 'utf8').split('\n')[0].trim().split(/\s+/).slice(1).map(Number)
  return (user + nice + system + interrupt + softInterrupt) / TICK
}

function spent (pid) {
  const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) / TICK
}

/** Compiles the emulator and what runs over it; what they need where they can't run here. */
function build () {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'needs Linux and root, for network namespaces'
  const examples = ['link', 'throughput', 'plain'].flatMap(name => ['--example', name])
  const { status } = spawnSync('cargo', ['build', '--quiet', '--release', '-p', 'udx', ...examples], { cwd: ROOT, stdio: 'inherit' })
  if (status !== 0) throw new Error('the link emulator did not compile')
}

module.exports = { links: [...transfers, flows, beside, emulator] }
