'use strict'

// Whole peers, hub and DHT on both ends of an emulated link: crates/udx/examples/link.rs.

const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { freshTransfer } = require('./transfer')

const ROOT = path.join(__dirname, '..', '..')
const LINK = path.join(ROOT, 'target', 'release', 'examples', 'link')
const PAIRS = [['ours', 'ours'], ['js', 'js'], ['ours', 'js'], ['js', 'ours']]

const LINKS = [
  { id: 'link-0', rate: 100, rtt: 50, loss: 0 },
  { id: 'link-0.1', rate: 100, rtt: 50, loss: 0.1 },
  { id: 'link-1', rate: 100, rtt: 50, loss: 1 },
  // 208 KiB is what Linux gives a socket that asks for more, unless told otherwise.
  { id: 'small-buffer', rate: 1000, rtt: 20, loss: 0, receiveBuffer: 208 * 1024 }
]

const links = LINKS.map(({ id, rate, rtt, loss, receiveBuffer }) => ({
  id,
  async measure (session, { quick, linkRuns }) {
    const missing = build()
    if (missing) return { missing }
    const size = quick ? 10_000_000 : 100_000_000
    const file = await session.file(size)
    const measured = { size, rate, rtt, loss, receiveBuffer }
    for (const pair of PAIRS) {
      const runs = []
      for (let run = 0; run < linkRuns; run++) {
        runs.push(await overLink(session, pair, file, { rate, rtt, loss, receiveBuffer, seed: run + 1 }))
      }
      measured[pair.join('-')] = runs
    }
    return measured
  }
}))

async function overLink (session, pair, file, { rate, rtt, loss, receiveBuffer, seed }) {
  const options = ['--rate', rate, '--rtt', rtt, '--loss', loss, '--seed', seed]
  if (receiveBuffer) options.push('--receive-buffer', receiveBuffer)
  const link = session.run(LINK, options.map(String), { stdin: 'pipe' })
  try {
    const { a, b } = JSON.parse(await link.line(/^\{"a"/))
    const hub = await session.hub({ namespace: a.namespace, listen: a.address })
    const place = { sender: { namespace: a.namespace, host: a.address }, receiver: { namespace: b.namespace, host: b.address } }
    try {
      const { bytes, seconds, connected, cpu } = await freshTransfer(session, pair, [file], { hub, place })
      return { bytes, seconds, connected, cpu }
    } finally {
      await hub.stop()
    }
  } finally {
    link.stdin.end()
    await link.stop()
  }
}

/** Compiles the emulator; what it needs where it can't run here. */
function build () {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'needs Linux and root, for network namespaces'
  const { status } = spawnSync('cargo', ['build', '--quiet', '--release', '-p', 'udx', '--example', 'link'], { cwd: ROOT, stdio: 'inherit' })
  if (status !== 0) throw new Error('the link emulator did not compile')
}

module.exports = { links }
