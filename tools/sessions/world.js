'use strict'

// The place of one recorded session: a hub, a folder to be in, peers, and the terminal that is looked at.

const fs = require('node:fs')
const path = require('node:path')
const { AtsHttp } = require('../../__test__/fixtures/ats-http')
const { TYPE } = require('../../__test__/fixtures/frames')
const { bootstrapNodes, child, defer, hub, node, tempFolder } = require('../../__test__/fixtures/harness')
const { OriginalPeer } = require('../../__test__/fixtures/original-peer')
const { TerminalProgram } = require('../../__test__/fixtures/terminal')
const { stable } = require('./stable')

const PROGRAM = path.join(__dirname, '..', '..', 'bin', 'ats-p2p.js')
const CTRL_C = '\x03'

// How long anything takes to be shown at most, on a machine that does much else.
const SHOWN_MS = 90_000

class World {
  #t
  #home

  /** One of its own for each session, gone at the end of `t`. */
  static async make (t) {
    const world = new World()
    world.#t = t
    world.hub = await hub(t, { relay: 'off', tunnel: 'off' })
    world.#home = tempFolder(t)
    world.folder = path.join(world.#home, 'work')
    fs.mkdirSync(world.folder)
    fs.writeFileSync(path.join(world.folder, 'report.pdf'), Buffer.alloc(64 * 1024, 'a page of it\n'))
    fs.mkdirSync(path.join(world.#home, 'bin'))
    fs.symlinkSync(PROGRAM, path.join(world.#home, 'bin', 'ats-p2p'))
    return world
  }

  /** Runs a session: what it shows, in blocks of `{ caption, lines }`. */
  async play ({ caption, command, columns = 80, rows = 24, env = {}, before = () => {}, during = () => {}, plain = false }) {
    await before(this)
    if (typeof command === 'function') command = command(this)
    const size = { columns, rows }
    const blocks = []
    const program = new TerminalProgram(['sh', '-c', command.includes('|') ? command : `exec ${command}`], { ...size, cwd: this.folder, env: this.#environment(env) })
    defer(this.#t, () => program.kill())
    // What somebody typed before it.
    await program.screen.write(`$ ${command}\r\n`)
    const ended = program.ended.then((code) => { this.code = code })
    let over = false
    ended.then(() => { over = true; program.screen.emit('change') })
    const shown = () => stable(program.screen.paragraphs(), size.columns, this.#home)
    await during({
      world: this,
      /** Resolves once what is shown matches. */
      async until (pattern) {
        let late = false
        const timer = setTimeout(() => { late = true; program.screen.emit('change') }, SHOWN_MS)
        await program.screen.until(() => {
          const text = program.screen.paragraphs().join('\n')
          if (pattern.test(text)) return true
          if (over || late) throw new Error(`${command} ${over ? 'ended' : 'stands there'} without ${pattern}:\n${text}`)
          return false
        }).finally(() => clearTimeout(timer))
      },
      show: caption => blocks.push({ caption, lines: shown() }),
      type: text => program.type(text),
      interrupt: () => program.type(CTRL_C),
      resize (columns) {
        size.columns = columns
        program.resize(columns, rows)
      }
    })
    await ended
    if (plain && /\x1b\[[\d;]*m/.test(program.written)) throw new Error(`${command} has colours`)
    blocks.push({ caption: blocks.length > 0 ? 'At its end' : caption, lines: [...shown(), `[exit code ${this.code}]`] })
    return blocks
  }

  /** A command of the same agent, which nobody looks at; see `child` of the tests' harness. */
  run (args) {
    return child(this.#t, [PROGRAM, ...args, '--json'], { cwd: this.folder, env: this.#environment({}) })
  }

  /** A node of this package that takes all files for `actorId`. */
  async takes (actorId) {
    const receiver = await node(this.#t, this.hub.url, actorId)
    receiver.watch({ saveDir: path.join(this.#home, actorId) })
    return receiver
  }

  async sender (actorId) {
    return node(this.#t, this.hub.url, actorId)
  }

  /** A recipient that claims the next offer and is not met. */
  claims (actorId) {
    const service = new AtsHttp(this.hub.url, actorId)
    const claim = async () => {
      const [task] = await service.list({ channel: 'p2p-transfer', status: 'pending' })
      return task === undefined ? new Promise(resolve => setTimeout(resolve, 50)).then(claim) : service.claim(task.id)
    }
    claim().catch(() => {})
  }

  /** A recipient that takes so many bytes of the next file and no more, or all of it and does not say that it has. */
  stops (actorId, bytes = Infinity) {
    const peer = new OriginalPeer({ atsUrl: this.hub.url, actorId, bootstrap: bootstrapNodes(this.hub.bootstrap) })
    defer(this.#t, () => peer.close())
    const onframe = ({ type, size }) => type === TYPE.DONE || size >= bytes ? new Promise(() => {}) : undefined
    peer.receive({ saveDir: this.#home, onframe }).catch(() => {})
  }

  /** A file of zeros that take no room. */
  zeros (name, bytes) {
    fs.writeFileSync(path.join(this.folder, name), '')
    fs.truncateSync(path.join(this.folder, name), bytes)
  }

  #environment (more) {
    return {
      PATH: `${path.join(this.#home, 'bin')}${path.delimiter}${process.env.PATH}`,
      HOME: this.#home,
      ATS_URL: this.hub.url,
      ATS_ACTOR_ID: 'agent-a',
      ...more
    }
  }
}

module.exports = { World }
