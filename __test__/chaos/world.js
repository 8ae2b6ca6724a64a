'use strict'

// Where a run happens: a hub, a sender and a receiver, each a process; with root a network of their own and a small
// disk for what arrives.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { Network, cannot } = require('../fixtures/netns')
const { Member } = require('./member')

const PORT = 8787
/** How long the two wait for each other, in milliseconds: short, so that a run ends. */
const TIMEOUT_MS = 20_000
/** What a full disk has left, in bytes. */
const LEFT = 64 * 1024
/** What a slow link carries in a second, in bytes. */
const SLOW = 2 * 1024 * 1024

const HUB = path.join(__dirname, '..', 'fixtures', 'hub.js')
const AGENT = path.join(__dirname, 'agent.js')
const OBSERVER = path.join(__dirname, 'observer.js')

class World {
  #folder
  #undo = []
  #network = null
  #disk = null
  #url
  #members = {}

  /** Which kinds of interruptions can be made here, and why not the others. */
  static missing () {
    const why = cannot()
    return why ? { kinds: ['cut link', 'slow link', 'fill disk'], why } : { kinds: [], why: null }
  }

  constructor (folder) {
    this.#folder = folder
    this.saveDir = path.join(folder, 'disk', 'in')
    this.homes = { sender: path.join(folder, 'sender'), receiver: path.join(folder, 'receiver') }
    this.logs = path.join(folder, 'logs')
    for (const made of [this.logs, this.saveDir]) fs.mkdirSync(made, { recursive: true })
  }

  /** `hear[name]` gets what the hub, the sender, the receiver and the observer say; `crashed` gets why one ended. */
  async start ({ bytes, hear, crashed }) {
    let host = '127.0.0.1'
    let port
    if (!World.missing().why) {
      this.#network = new Network({ after: undo => this.#undo.push(undo) }, ['hub', 'sender', 'receiver'])
      host = this.#network.address('hub')
      port = PORT
      this.#mount(bytes)
    } else {
      port = await freePort()
    }
    this.#url = `http://${host}:${port}`
    this.#add('hub', 'hub', { args: [HUB], env: { FIXTURE_HUB: JSON.stringify({ listen: `${host}:${port}`, open: true, data: path.join(this.#folder, 'hub') }) } }, hear, crashed)
    this.#add('observer', 'hub', { args: [OBSERVER], env: { CHAOS_OBSERVER: JSON.stringify({ url: this.#url }) }, said: 'open' }, hear, crashed)
    this.#add('sender', 'sender', { args: [AGENT], env: this.#agent('sender', { resume: true }) }, hear, crashed)
    this.#add('receiver', 'receiver', { args: [AGENT], env: this.#agent('receiver', {}, this.saveDir) }, hear, crashed)
    for (const name of ['hub', 'observer', 'receiver', 'sender']) await this.#members[name].start()
  }

  member (name) {
    return this.#members[name]
  }

  /** Bytes that the sender's machine has sent; null where they are not counted. */
  sent () {
    if (!this.#network) return null
    const counter = '/sys/class/net/e0/statistics/tx_bytes'
    const [command, ...args] = [...this.#network.on('sender'), 'cat', counter]
    return Number(execFileSync(command, args, { encoding: 'utf8' }))
  }

  /** Begins an interruption; what it returns ends it. */
  async interrupt (kind) {
    const [verb, target] = kind.split(' ')
    if (verb === 'kill') {
      await this.#members[target].kill()
      return () => this.#members[target].start()
    }
    if (verb === 'pause') {
      this.#members[target].signal('SIGSTOP')
      return () => this.#members[target].signal('SIGCONT')
    }
    if (verb === 'cut') {
      this.#network.down('receiver')
      return () => this.#network.up('receiver')
    }
    if (verb === 'slow') {
      this.#network.limit('sender', SLOW)
      return () => this.#network.limit('sender', null)
    }
    return this.#fill()
  }

  /** Starts the receiver again with another setup of the same home. */
  async replaceReceiver (options) {
    await this.#members.receiver.end()
    this.#members.receiver.change(this.#agent('receiver', options, this.saveDir))
    await this.#members.receiver.start()
  }

  async end () {
    await Promise.all(Object.values(this.#members).map(member => member.end()))
    for (const undo of this.#undo.reverse()) await undo()
  }

  #add (name, host, { args, env, said = 'up' }, hear, crashed) {
    const prefix = this.#network ? this.#network.on(host) : []
    const command = { prefix, args, env: { ATS_P2P_LOG: 'info', ...env }, said }
    this.#members[name] = new Member({ name, command, logs: this.logs, hear: hear[name] ?? (() => {}), crashed })
  }

  #agent (actorId, options, saveDir) {
    const all = { atsUrl: this.#url, actorId, home: this.homes[actorId], timeout: TIMEOUT_MS, ...options }
    return { CHAOS_AGENT: JSON.stringify({ options: all, saveDir }) }
  }

  #mount (bytes) {
    const disk = path.dirname(this.saveDir)
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'chaos', disk])
    this.#undo.push(() => execFileSync('umount', ['-l', disk]))
    fs.mkdirSync(this.saveDir)
    this.#disk = disk
  }

  #fill () {
    const filler = path.join(this.#disk, 'filler')
    const { bavail, bsize } = fs.statfsSync(this.#disk)
    const bytes = bavail * bsize - LEFT
    // What is written at the same time may be quicker.
    try {
      if (bytes > 0) execFileSync('fallocate', ['-l', String(bytes), filler], { stdio: 'ignore' })
    } catch {}
    return () => fs.rmSync(filler, { force: true })
  }
}

async function freePort () {
  const server = net.createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address()
  await new Promise(resolve => server.close(resolve))
  return port
}

module.exports = { TIMEOUT_MS, World }
