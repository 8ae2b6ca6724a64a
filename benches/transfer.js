'use strict'

// Megabytes a second from one process to another on this machine, for each pairing of this package and a
// JavaScript peer of the original's kind, over one hub and its DHT. Both ends read, hash, encrypt and write
// the whole file; what is timed is the sender's span from the connection to the verified end.
//
//   npm run bench -- [--size MIB] [--runs N]

const assert = require('node:assert/strict')
const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const { parseArgs } = require('node:util')

const OURS = path.join(__dirname, '..', 'bin', 'ats-p2p.js')
const ORIGINAL = path.join(__dirname, '..', '__test__', 'fixtures', 'original-peer.js')
const PAIRS = [['ours', 'ours'], ['ours', 'JavaScript'], ['JavaScript', 'ours'], ['JavaScript', 'JavaScript']]
const MIB = 1024 * 1024

/** How each kind of peer is told to send or to receive, and which of its lines says that it is done. */
const PEERS = {
  ours: {
    send: ({ url, id, to, file }) => [OURS, 'send', file, '--to', to, '--actor-id', id, '--ats-url', url, '--json'],
    receive: ({ url, id, folder }) => [OURS, 'listen', '--actor-id', id, '--save-dir', folder, '--ats-url', url, '--json']
  },
  JavaScript: {
    send: ({ url, bootstrap, id, to, file }) => [ORIGINAL, 'send', '--ats-url', url, '--bootstrap', bootstrap, '--actor-id', id, '--to', to, '--file', file],
    receive: ({ url, bootstrap, id, folder }) => [ORIGINAL, 'receive', '--ats-url', url, '--bootstrap', bootstrap, '--actor-id', id, '--save-dir', folder]
  }
}

async function main () {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '512' }, runs: { type: 'string', default: '1' } } })
  const size = Number(values.size) * MIB
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-bench-'))
  let hub
  try {
    const { file, hash } = await makeFile(folder, size)
    hub = start(folder, 'hub', [OURS, 'hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'hub'), '--json'])
    const { url, bootstrap } = await hub.line(({ event }) => event === 'listening')
    console.log(`${values.size} MiB, ${os.cpus().length} × ${os.cpus()[0].model.trim()}, Node.js ${process.version}\n`)
    console.log(`${'sender'.padEnd(12)}${'receiver'.padEnd(12)}${'MB/s'.padStart(8)}${'seconds'.padStart(10)}`)
    for (const [sender, receiver] of PAIRS) {
      for (let run = 0; run < Number(values.runs); run++) {
        const network = { url, bootstrap: bootstrap.join(',') }
        const seconds = await transfer(folder, network, { sender, receiver, run, file, hash })
        console.log(`${sender.padEnd(12)}${receiver.padEnd(12)}${(size / 1e6 / seconds).toFixed(1).padStart(8)}${seconds.toFixed(2).padStart(10)}`)
      }
    }
  } finally {
    await hub?.stop()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

/** One file from one process to another; the seconds that it took. */
async function transfer (folder, network, { sender, receiver, run, file, hash }) {
  const name = `${sender}-${receiver}-${run}`
  const saveDir = path.join(folder, name)
  fs.mkdirSync(saveDir)
  const to = `to-${name}`
  const receiving = start(folder, to, PEERS[receiver].receive({ ...network, id: to, folder: saveDir }))
  if (receiver === 'ours') await receiving.line(({ event }) => event === 'connected')
  const sending = start(folder, `from-${name}`, PEERS[sender].send({ ...network, id: `from-${name}`, to, file }))
  try {
    const { durationMs } = await sending.line(({ durationMs }) => durationMs !== undefined)
    if (receiver === 'ours') await receiving.line(({ event }) => event === 'transfer_complete')
    else await receiving.closed
    const saved = path.join(saveDir, path.basename(file))
    assert.equal(await sha256(saved), hash, 'the copy differs')
    return durationMs / 1000
  } finally {
    await sending.stop()
    await receiving.stop()
    fs.rmSync(saveDir, { recursive: true, force: true })
  }
}

/** A process that says what it does in lines of JSON. */
function start (folder, name, args) {
  const home = path.join(folder, `home-${name}`)
  fs.mkdirSync(home)
  const kept = Object.entries(process.env).filter(([key]) => !key.startsWith('ATS_'))
  const child = spawn(process.execPath, args, {
    cwd: home,
    env: { ...Object.fromEntries(kept), HOME: home, USERPROFILE: home, ATS_P2P_HOME: path.join(home, 'state') },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const lines = []
  let changed = () => {}
  let ended = false
  readline.createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(JSON.parse(line))
    changed()
  })
  const closed = once(child, 'close').then(() => {
    ended = true
    changed()
  })
  return {
    closed,
    async line (wanted) {
      for (;;) {
        const found = lines.find(wanted)
        if (found) return found
        if (ended) throw new Error(`${name} ended too early`)
        await new Promise((resolve) => { changed = resolve })
      }
    },
    async stop () {
      if (!ended) child.kill('SIGTERM')
      await closed
    }
  }
}

async function makeFile (folder, size) {
  const file = path.join(folder, 'file.bin')
  const handle = await fs.promises.open(file, 'w')
  const hash = crypto.createHash('sha256')
  const block = crypto.randomBytes(MIB)
  for (let written = 0; written < size; written += block.length) {
    // Random enough that nothing on the way could take one block for another.
    block.writeDoubleLE(Math.random(), 0)
    hash.update(block)
    await handle.write(block)
  }
  await handle.close()
  return { file, hash: hash.digest('hex') }
}

async function sha256 (filePath) {
  const hash = crypto.createHash('sha256')
  for await (const chunk of fs.createReadStream(filePath, { highWaterMark: MIB })) hash.update(chunk)
  return hash.digest('hex')
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
