'use strict'

// What a benchmark runs on: a folder in memory, a hub, peers, other programs. All of it ends with the session.

const { spawn, spawnSync } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const readline = require('node:readline')

const PROGRAM = path.join(__dirname, '..', 'bin', 'ats-p2p.js')
const PEER = path.join(__dirname, 'peer.js')
const MIB = 1024 * 1024
/** How long a process may take to end after it was asked to. */
const STOP_MS = 5000
/** Memory that is left to the system beside the files, in bytes. */
const SPARE = 3 * 1024 * MIB

class Session {
  #children = new Set()
  #cleanups = []
  #files = new Map()
  #count = 0
  #closed = false

  constructor () {
    const memory = fs.existsSync('/dev/shm') ? '/dev/shm' : os.tmpdir()
    this.folder = fs.mkdtempSync(path.join(memory, 'ats-p2p-bench-'))
    this.#cleanups.push(() => fs.rmSync(this.folder, { recursive: true, force: true }))
  }

  /** Something to undo at the end, the last first. */
  defer (cleanup) {
    this.#cleanups.push(cleanup)
  }

  /** A name that this session has not used. */
  name (kind) {
    return `${kind}-${++this.#count}`
  }

  newFolder (kind, parent = this.folder) {
    const made = path.join(parent, this.name(kind))
    fs.mkdirSync(made)
    return made
  }

  /** The folder for files of so many bytes in all: in memory if they fit. */
  place (bytes) {
    const { bavail, bsize } = fs.statfsSync(this.folder)
    if (bytes <= Math.min(bavail * bsize, available() - SPARE)) return this.folder
    const disk = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-bench-'))
    this.defer(() => fs.rmSync(disk, { recursive: true, force: true }))
    return disk
  }

  /** A file of random bytes, made once for each size; `release` gives its room back. */
  async file (size) {
    if (!this.#files.has(size)) {
      const folder = this.place(2 * size)
      this.#files.set(size, { ...await randomFile(path.join(folder, `${this.name('file')}.bin`), size), folder })
    }
    return this.#files.get(size)
  }

  release (size) {
    fs.rmSync(this.#files.get(size).path)
    this.#files.delete(size)
  }

  /** A hub in a process of its own: `{ url, bootstrap }`. BENCH_HUB names another checkout whose hub it is. */
  async hub ({ listen = '127.0.0.1', namespace } = {}) {
    const folder = this.newFolder('hub')
    const program = process.env.BENCH_HUB ? path.resolve(process.env.BENCH_HUB, 'bin/ats-p2p.js') : PROGRAM
    const args = [program, 'hub', '--open', '--listen', `${listen}:0`, '--data', path.join(folder, 'data'), '--json']
    const hub = this.run(process.execPath, args, { home: folder, namespace })
    const { url, bootstrap } = JSON.parse(await hub.line(/"listening"/))
    return { url, bootstrap, stop: hub.stop }
  }

  /** One end of transfers, `kind` being `ours` or `js`: see peer.js. */
  async peer (kind, hub, { namespace, host = '127.0.0.1', env } = {}) {
    const home = this.newFolder('home')
    const actorId = this.name(kind)
    const child = this.#spawn(process.execPath, ['--expose-gc', PEER, kind], { home, namespace, env, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const waiting = new Map()
    let calls = 0
    child.on('message', ({ id, result, error }) => {
      const { resolve, reject } = waiting.get(id)
      waiting.delete(id)
      if (error) reject(new Error(`${actorId}: ${error}`))
      else resolve(result)
    })
    child.once('close', () => {
      for (const { reject } of waiting.values()) reject(new Error(`${actorId} ended`))
    })
    const call = (name, args) => new Promise((resolve, reject) => {
      waiting.set(++calls, { resolve, reject })
      child.send({ id: calls, call: name, args }, (error) => { if (error) reject(error) })
    })
    await call('start', { ...hub, actorId, home: path.join(home, 'state'), host })
    return {
      actorId,
      pid: child.pid,
      call,
      stop: async () => {
        call('close').catch(() => {})
        await stop(child, STOP_MS, 0)
      }
    }
  }

  /** Another program; `line(pattern)` waits for a line that it prints, to either output. */
  run (command, args, { home = this.newFolder('home'), namespace, env = {}, cwd = home, stdin = 'ignore' } = {}) {
    const child = this.#spawn(command, args, { home, namespace, env, cwd, stdio: [stdin, 'pipe', 'pipe'] })
    const lines = []
    let changed = () => {}
    for (const output of [child.stdout, child.stderr]) {
      readline.createInterface({ input: output }).on('line', (line) => {
        lines.push(line)
        changed()
      })
    }
    let end
    const ended = once(child, 'close').then(([code]) => {
      end = { code, output: lines.join('\n') }
      changed()
      return end
    })
    return {
      pid: child.pid,
      ended,
      stdin: child.stdin,
      line: async (pattern) => {
        for (;;) {
          const found = lines.find(line => pattern.test(line))
          if (found !== undefined) return found
          if (end) throw new Error(`${command} ${args.join(' ')} ended (${end.code}): ${end.output}`)
          await new Promise((resolve) => { changed = resolve })
        }
      },
      stop: (signal = 'SIGTERM') => stop(child, STOP_MS, signal)
    }
  }

  /** Resolves with the output of a program that must succeed. */
  async output (command, args, options) {
    const { code, output } = await this.run(command, args, options).ended
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${output}`)
    return output
  }

  #spawn (command, args, { home, namespace, env, cwd = home, stdio }) {
    if (this.#closed) throw new Error('the session is over')
    const kept = Object.entries(process.env).filter(([key]) => !key.startsWith('ATS_'))
    const [program, ...rest] = namespace ? ['ip', 'netns', 'exec', namespace, command, ...args] : [command, ...args]
    const child = spawn(program, rest, {
      cwd,
      env: { ...Object.fromEntries(kept), HOME: home, ATS_P2P_HOME: path.join(home, 'state'), ...env },
      stdio
    })
    this.#children.add(child)
    child.once('close', () => this.#children.delete(child))
    child.once('error', () => this.#children.delete(child))
    return child
  }

  /** Ends everything, and takes everything away. */
  async close () {
    this.#closed = true
    await Promise.all([...this.#children].map(child => stop(child, STOP_MS)))
    while (this.#cleanups.length) {
      try {
        this.#cleanups.pop()()
      } catch (error) {
        console.error(`left behind: ${error.message}`)
      }
    }
  }
}

/** Sends `signal`, and SIGKILL to who is still there after so many milliseconds. */
async function stop (child, patience, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = once(child, 'close')
  child.kill(signal)
  const timer = setTimeout(() => child.kill('SIGKILL'), patience)
  await closed
  clearTimeout(timer)
}

/** Bytes of memory that programs can still take. */
function available () {
  const found = /^MemAvailable:\s+(\d+) kB/m.exec(fs.existsSync('/proc/meminfo') ? fs.readFileSync('/proc/meminfo', 'utf8') : '')
  return found ? Number(found[1]) * 1024 : os.freemem()
}

/** Random bytes as a stream cipher makes them: none of the formats and file systems on the way can shrink them. */
async function randomFile (filePath, size) {
  const cipher = crypto.createCipheriv('aes-128-ctr', crypto.randomBytes(16), crypto.randomBytes(16))
  const zeroes = Buffer.alloc(4 * MIB)
  const hash = crypto.createHash('sha256')
  const file = await fs.promises.open(filePath, 'wx')
  try {
    for (let left = size; left > 0; left -= Math.min(left, zeroes.length)) {
      const block = cipher.update(zeroes.subarray(0, Math.min(left, zeroes.length)))
      hash.update(block)
      await file.writeFile(block)
    }
  } finally {
    await file.close()
  }
  return { path: filePath, size, hash: hash.digest('hex') }
}

async function sha256 (filePath) {
  const hash = crypto.createHash('sha256')
  for await (const chunk of fs.createReadStream(filePath, { highWaterMark: 4 * MIB })) hash.update(chunk)
  return hash.digest('hex')
}

/** Whether a program can be found. */
function installed (program) {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
}

module.exports = { MIB, Session, installed, randomFile, sha256 }
