// The whole product in the NAT lab, by its command line: a hub in the "internet", `listen` behind
// one NAT, `send` behind the other. The hub is where hubs are, at port 443 with a certificate of an authority
// that all trust.
const crypto = require('node:crypto')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { findOpenssl, makeAuthority } = require('../../__test__/fixtures/certificate')
const { PROXY_PORT } = require('./kinds')
const { SERVICE } = require('./lab')

const PROGRAM = path.join(__dirname, '../../bin/ats-p2p.js')
const URL = `https://${SERVICE}`
// Longer than any transfer that still comes about.
const PATIENCE = 60_000

// Why the product cannot be tried here, where there is a lab; or nothing.
const noCertificates = findOpenssl() ? null : 'no OpenSSL is installed to make a certificate'

/**
 * Sends `files` files of `bytes` from peer A of the lab to peer B, several by one node. Returns `delivered`, whether
 * they arrived whole; `ms`, the time from the start of `send` to its word that the last one did; the `path` of the last
 * connection; `connects`, of each file the time from its offer until both ends were connected; `codes`, why it failed
 * if it did; and `memory`, the most MiB that the hub's process has held, `before` the transfer and `after` it.
 */
async function deliver (lab, { bytes, files = 1, patience = PATIENCE }) {
  const folder = fs.mkdtempSync(path.join(lab.folder, 'product-'))
  const paths = Array.from({ length: files }, (_, index) => path.join(folder, `file-${index}`))
  for (const file of paths) fs.writeFileSync(file, crypto.randomBytes(bytes))
  const service = await startService(lab, folder)
  const listener = start(lab, 'pb', folder, ['listen', '--actor-id', 'b', '--save-dir', path.join(folder, 'in')])
  await expect(listener, 'connected')
  const memory = { before: mostMemory(service) }
  const began = performance.now()
  const sender = files === 1
    ? start(lab, 'pa', folder, ['send', paths[0], '--to', 'b', '--actor-id', 'a'])
    : run(lab, 'pa', folder, [path.join(__dirname, 'sender.js'), 'b', ...paths])
  const end = await ended(sender, files, patience)
  const ms = performance.now() - began
  memory.after = mostMemory(service)
  const last = sender.heard.findLast(({ event }) => event === 'peer_connected')
  return {
    delivered: end === null && await areWhole(listener, paths),
    ms,
    path: last?.path ?? null,
    connects: connects(sender, listener),
    codes: end?.code ? [end.code] : [],
    memory
  }
}

// Waits until so many files have arrived; what came instead, if they have not.
async function ended (sender, files, patience) {
  for (let left = files; left > 0; left--) {
    const event = await sender.next(['failed', 'transfer_complete'], patience)
    if (event?.event !== 'transfer_complete') return event ?? { event: 'late' }
  }
  return null
}

// Of each file that was offered, the milliseconds until both ends had told of a connection.
function connects (sender, listener) {
  const of = (program, transferId) => program.heard.find((it) => it.event === 'peer_connected' && it.transferId === transferId)
  const offers = sender.heard.filter(({ event }) => event === 'offer_sent')
  return offers.map(({ transferId, at }) => Math.max(...[sender, listener].map((end) => of(end, transferId)?.at ?? Infinity)) - at)
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
  const folder = fs.mkdtempSync(path.join(lab.folder, 'product-'))
  await startService(lab, folder)
  const { key } = await expect(start(lab, 'pa', folder, ['doctor', '--wait']), 'waiting')
  const doctor = start(lab, 'pb', folder, ['doctor', '--peer', key])
  for (const checks = {}; ;) {
    const event = await doctor.next(['check'], PATIENCE)
    if (event?.event !== 'check') return { ...checks, exit: event }
    checks[event.check] = event
  }
}

async function areWhole (listener, files) {
  for (const file of files) {
    const { filePath } = await expect(listener, 'transfer_complete')
    if (!fs.readFileSync(filePath).equals(fs.readFileSync(file))) return false
  }
  return true
}

// The hub, and the proxies that lead to it.
async function startService (lab, folder) {
  const { hub, company, authority } = certificates()
  for (const { router, host, password, reads } of Object.values(lab.proxies)) {
    const options = { host, port: PROXY_PORT, password, reads: reads && { ...company.certificate, ca: authority } }
    await expect(lab.start(router, process.execPath, [path.join(__dirname, 'proxy.js'), JSON.stringify(options)]), 'listening')
  }
  const tls = ['--cert', hub.cert, '--key-file', hub.keyFile, '--public-url', URL]
  const service = start(lab, 'inet', folder, ['hub', '--listen', `${lab.service}:443`, '--open', ...tls])
  await expect(service, 'listening')
  return service
}

function start (lab, where, folder, [command, ...args]) {
  return run(lab, where, folder, [PROGRAM, command, ...args, '--json'])
}

// A Node.js program of somebody who has a home of their own, and settings for the way out of where they are.
function run (lab, where, folder, args) {
  const home = path.join(folder, where)
  fs.mkdirSync(home, { recursive: true })
  const isOurs = (name) => /^(ATS_|NODE_EXTRA_CA_CERTS$|SSL_CERT_|(HTTPS?|ALL|NO)_PROXY$)/i.test(name)
  const environment = Object.entries(process.env).filter(([name]) => !isOurs(name))
  const env = {
    ...Object.fromEntries(environment),
    HOME: home,
    ATS_P2P_HOME: path.join(home, 'state'),
    ATS_URL: URL,
    SSL_CERT_FILE: certificates().authority,
    ...wayOut(lab.proxies[where.slice(1)])
  }
  return lab.start(where, process.execPath, args, { env, cwd: home })
}

function wayOut (proxy) {
  if (!proxy) return {}
  const user = proxy.password ? `${proxy.password.split(':').map(encodeURIComponent).join(':')}@` : ''
  const url = `http://${user}${proxy.host}:${PROXY_PORT}`
  return { HTTPS_PROXY: url, HTTP_PROXY: url, ...(proxy.reads && { NODE_EXTRA_CA_CERTS: certificates().company.authority }) }
}

let made = null

/**
 * The authority that all trust, and the hub's certificate by it; and the authority that is a company's own, and what
 * its proxy shows in the hub's place. They last as long as this process.
 */
function certificates () {
  if (made) return made
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-natlab-'))
  process.on('exit', () => fs.rmSync(folder, { recursive: true, force: true }))
  const [everybodys, companys] = ['everybody', 'company'].map((name) => makeAuthority(folder, name))
  made = {
    authority: everybodys.cert,
    hub: everybodys.sign(SERVICE),
    company: { authority: companys.cert, certificate: companys.sign(SERVICE) }
  }
  return made
}

async function expect (program, name) {
  const event = await program.next([name, 'failed'], PATIENCE)
  if (event?.event !== name) throw new Error(`expected ${name}, got ${JSON.stringify(event)}`)
  return event
}

module.exports = { deliver, examine, noCertificates }
