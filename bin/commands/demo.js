'use strict'

const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')
const { localPath } = require('../../lib/checks')
const { rate, size, quoted } = require('../output')

const DEMO_LEN = 64 * 1024 * 1024
// How long a process may take to end after it was asked to; the second where the demo was interrupted.
const STOP_MS = 15_000
const STOP_SOON_MS = 800
const PROGRAM = path.join(__dirname, '..', 'ats-p2p.js')
const SENDER = 'demo-sender'
const RECEIVER = 'demo-receiver'

module.exports = {
  summary: 'Send a file (or 64 MiB made for it) between two agents on this machine',
  saysGoodbye: true,
  positionals: ['[FILE]'],
  completes: 'file',
  flags: {},
  examples: [['ats-p2p demo', 'Two agents on this machine, and 64 MiB between them']],

  async run ({ positionals: [file], output, interrupts }) {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-demo-'))
    const processes = []
    const start = (name, args) => {
      interrupts.signal.throwIfAborted()
      const started = new Process(folder, name, args)
      processes.push(started)
      return started
    }
    try {
      await interrupts.race(deliver(folder, file, output, start))
    } finally {
      const [hub, ...agents] = processes
      const limit = interrupts.signal.aborted ? STOP_SOON_MS : STOP_MS
      await Promise.all(agents.map(agent => agent.stop(limit)))
      await hub?.stop(limit)
      fs.rmSync(folder, { recursive: true, force: true })
    }
  }
}

async function deliver (folder, file, output, start) {
  const filePath = file === undefined ? await makeFile(folder) : localPath(file, 'demo: the file')
  const hub = start('hub', ['hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'hub')])
  const { url } = await hub.line('listening')
  output.say(`Hub       ${url}`, 'hub', { url })

  const listener = start('listen', ['listen', '--ats-url', url, '--actor-id', RECEIVER, '--save-dir', path.join(folder, 'incoming')])
  await listener.line('connected')
  output.say(`Listener  ${RECEIVER}`, 'listener', { actorId: RECEIVER })

  const sender = start('send', ['send', '--ats-url', url, '--actor-id', SENDER, '--to', RECEIVER, '--', filePath])
  let shown = 0
  sender.each('transfer_progress', ({ event, ...progress }) => {
    const { bytesSent, totalBytes } = progress
    output.progress({ ...progress, fileName: path.basename(filePath) }, progress)
    const quarter = totalBytes > 0 ? Math.floor(bytesSent / totalBytes * 4) : 0
    if (!output.json && !process.stderr.isTTY && quarter > shown) {
      output.say(`Progress  ${quarter * 25} %`)
      shown = quarter
    }
  })
  const offer = await sender.line('offer_sent')
  output.say(`Sender    ${SENDER} offers ${quoted(offer.fileName)} (${size(offer.fileSize)})`, 'offer_sent', offer)
  const [sent, saved] = await Promise.all([sender.line('transfer_complete'), listener.line('transfer_complete')])
  output.ended(sent.transferId)
  const hash = await sha256(saved.filePath)
  if (hash !== sent.hash || hash !== await sha256(filePath)) throw new Error('the copy differs from the original')
  output.say(
    `Delivered ${size(sent.size)} in ${(sent.durationMs / 1000).toFixed(2)} s (${rate(sent.size, sent.durationMs)})\n` +
    `SHA-256   ${hash}, the same on both sides`,
    'delivered',
    { ...sent, hash }
  )
}

/** One of the demo's processes, read line by line. */
class Process {
  #name
  #child
  #closed
  #seen = new Map()
  #listeners = new Map()
  #errors = ''
  #ended = false

  constructor (folder, name, args) {
    this.#name = name
    const home = path.join(folder, `home-${name}`)
    fs.mkdirSync(home)
    this.#child = spawn(process.execPath, [PROGRAM, args[0], '--json', ...args.slice(1)], {
      cwd: home,
      env: environment(home),
      stdio: ['ignore', 'pipe', 'pipe']
    })
    this.#child.stderr.on('data', (text) => { this.#errors += text })
    readline.createInterface({ input: this.#child.stdout }).on('line', (line) => this.#line(JSON.parse(line)))
    this.#closed = once(this.#child, 'close').then(() => {
      this.#ended = true
      this.#listeners.get('close')?.()
    })
  }

  /** The first line that says this event; rejects when the process ends without. */
  async line (event) {
    while (!this.#seen.has(event)) {
      if (this.#ended) throw this.#failure()
      await new Promise((resolve) => {
        this.#listeners.set(event, resolve)
        this.#listeners.set('close', resolve)
      })
    }
    return this.#seen.get(event)
  }

  each (event, listener) {
    this.#listeners.set(event, listener)
  }

  async stop (limit) {
    if (this.#ended) return
    this.#child.kill('SIGTERM')
    const stuck = setTimeout(() => this.#child.kill('SIGKILL'), limit)
    await this.#closed
    clearTimeout(stuck)
  }

  /** Why it ended: the error that it told of itself. */
  #failure () {
    const { message = `${this.#name} ended too early: ${this.#errors.trim()}`, ...failed } = this.#seen.get('failed') ?? {}
    return Object.assign(new Error(message), failed)
  }

  #line (message) {
    this.#seen.set(message.event, message)
    this.#listeners.get(message.event)?.(message)
  }
}

/** The user's environment without the settings that would lead the demo elsewhere. */
function environment (home) {
  const kept = Object.entries(process.env).filter(([name]) => !name.startsWith('ATS_'))
  return { ...Object.fromEntries(kept), HOME: home, USERPROFILE: home, ATS_P2P_HOME: path.join(home, 'state') }
}

async function makeFile (folder) {
  const filePath = path.join(folder, 'demo.bin')
  await fs.promises.writeFile(filePath, crypto.randomBytes(DEMO_LEN))
  return filePath
}

async function sha256 (filePath) {
  const hash = crypto.createHash('sha256')
  for await (const chunk of fs.createReadStream(filePath, { highWaterMark: 1024 * 1024 })) hash.update(chunk)
  return hash.digest('hex')
}
