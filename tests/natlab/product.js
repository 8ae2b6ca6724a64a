// The whole product in the NAT lab, by its command line: a hub in the "internet", `listen` behind
// one NAT, `send` behind the other.
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { NODES } = require('./lab')

const PROGRAM = path.join(__dirname, '../../bin/ats-p2p.js')
const URL = `http://${NODES[0]}:8787`
// Longer than any transfer that still comes about.
const PATIENCE = 60_000

/**
 * Sends a file of `bytes` from peer A of the lab to peer B. Returns `delivered`, whether it arrived
 * whole; `ms`, the time from the start of `send` to its word that it did; the `path` of the last
 * connection; `codes`, why it failed if it did; and `memory`, the most MiB that the hub's process
 * has held, `before` the transfer and `after` it.
 */
async function deliver (lab, { bytes, patience = PATIENCE }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-natlab-'))
  try {
    const file = path.join(folder, 'file')
    fs.writeFileSync(file, crypto.randomBytes(bytes))
    const service = start(lab, 'inet', folder, ['hub', '--listen', `${NODES[0]}:8787`, '--open'])
    await expect(service, 'listening')
    const listener = start(lab, 'pb', folder, ['listen', '--actor-id', 'b', '--save-dir', path.join(folder, 'in')])
    await expect(listener, 'connected')
    const memory = { before: mostMemory(service) }
    const began = performance.now()
    const sender = start(lab, 'pa', folder, ['send', file, '--to', 'b', '--actor-id', 'a'])
    const result = { delivered: false, ms: null, path: null, codes: [], memory }
    for (;;) {
      const event = await sender.next(['peer_connected', 'failed', 'transfer_complete'], patience)
      if (event?.event === 'peer_connected') result.path = event.path
      else if (event?.event === 'failed') result.codes.push(event.code)
      else {
        result.ms = performance.now() - began
        memory.after = mostMemory(service)
        result.delivered = event?.event === 'transfer_complete' && await isWhole(listener, file)
        return result
      }
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

function mostMemory ({ child }) {
  const status = fs.readFileSync(`/proc/${child.pid}/status`, 'utf8')
  return Number(status.match(/^VmHWM:\s+(\d+) kB$/m)[1]) / 1024
}

/**
 * Has the doctor of peer B reach that of peer A, through a hub: what it found of the peer, and how
 * its process ended.
 */
async function examine (lab) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-natlab-'))
  try {
    await expect(start(lab, 'inet', folder, ['hub', '--listen', `${NODES[0]}:8787`, '--open']), 'listening')
    const { key } = await expect(start(lab, 'pa', folder, ['doctor', '--wait']), 'waiting')
    const doctor = start(lab, 'pb', folder, ['doctor', '--peer', key])
    for (const checks = {}; ;) {
      const event = await doctor.next(['check'], PATIENCE)
      if (event?.event !== 'check') return { ...checks, exit: event }
      checks[event.check] = event
    }
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

async function isWhole (listener, file) {
  const { filePath } = await expect(listener, 'transfer_complete')
  return fs.readFileSync(filePath).equals(fs.readFileSync(file))
}

function start (lab, where, folder, [command, ...args]) {
  const home = path.join(folder, where)
  fs.mkdirSync(home, { recursive: true })
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('ATS_'))
  const env = { ...Object.fromEntries(environment), HOME: home, ATS_P2P_HOME: path.join(home, 'state'), ATS_URL: URL }
  return lab.start(where, process.execPath, [PROGRAM, command, ...args, '--json'], { env, cwd: home })
}

async function expect (program, name) {
  const event = await program.next([name, 'failed'], PATIENCE)
  if (event?.event !== name) throw new Error(`expected ${name}, got ${JSON.stringify(event)}`)
  return event
}

module.exports = { deliver, examine }
