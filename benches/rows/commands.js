'use strict'

// Whole commands, from the start of a process to its end; and a file that its recipient has already.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { installed, sha256 } = require('../session')
const { peers, transfer } = require('./transfer')

const ROOT = path.join(__dirname, '..', '..')
const PROGRAM = path.join(ROOT, 'bin', 'ats-p2p.js')
const ORIGINAL = path.join(ROOT, '__test__', 'fixtures', 'original-peer.js')

/** How long a file must have been let alone before its hash is remembered, and somewhat more. */
const SETTLED_MS = 2500

/**
 * `send` as a command to one who listens: `seconds` from its start to its end, `transfer` of that from the claim to the
 * verified file. The second time the hash is remembered; what the first one left at the recipient's is gone.
 */
const command = {
  id: 'command',
  async measure (session, { runs, size }) {
    const file = await session.file(size)
    const hub = await session.hub()
    const [ours, js] = [await session.peer('ours', hub), await session.peer('js', hub)]
    await ours.call('listen')

    const timed = async (peer, args, options) => {
      const saveDir = session.newFolder('copies', file.folder)
      const receiving = peer.call('receive', { saveDir, count: 1 })
      const started = performance.now()
      const { code, output } = await session.run(process.execPath, args, options).ended
      const seconds = (performance.now() - started) / 1000
      assert.equal(code, 0, output)
      const [{ claimed, verified, filePath }] = await receiving
      assert.equal(await sha256(filePath), file.hash, 'the copy differs')
      fs.rmSync(saveDir, { recursive: true })
      return { seconds, transfer: (verified - claimed) / 1000 }
    }
    const measured = { size, js: [], first: [], second: [] }
    await new Promise(resolve => setTimeout(resolve, SETTLED_MS))
    for (let run = 0; run < runs; run++) {
      const actor = session.name('command')
      const original = ['send', '--ats-url', hub.url, '--bootstrap', hub.bootstrap.join(','), '--file', file.path, '--to', js.actorId]
      measured.js.push(await timed(js, [ORIGINAL, ...original, '--actor-id', session.name('original')]))
      const options = { home: session.newFolder('home'), env: { ATS_URL: hub.url } }
      const args = [PROGRAM, 'send', file.path, '--to', ours.actorId, '--actor-id', actor, '--json']
      measured.first.push(await timed(ours, args, options))
      measured.second.push(await timed(ours, args, options))
    }
    return measured
  }
}

/**
 * The same file twice to the same recipient, who keeps it: seconds, and bytes on all interfaces of a namespace. The
 * second time nothing but its verification takes time; `hashed` is how long Node.js takes to hash it.
 */
const again = {
  id: 'again',
  async measure (session, { runs, size }) {
    if (process.platform !== 'linux' || !installed('ip') || process.getuid() !== 0) return { missing: 'needs Linux and root, for a network namespace' }
    const namespace = `ats-again-${process.pid}`
    const ip = (...args) => session.output('ip', args)
    await ip('netns', 'add', namespace)
    session.defer(() => spawnSync('ip', ['netns', 'delete', namespace]))
    await ip('-n', namespace, 'link', 'set', 'lo', 'up')
    const file = await session.file(size)
    const measured = { size, first: [], second: [], hashed: [] }
    await new Promise(resolve => setTimeout(resolve, SETTLED_MS))
    for (let run = 0; run < runs; run++) {
      const started = performance.now()
      await sha256(file.path)
      measured.hashed.push((performance.now() - started) / 1000)
      const hub = await session.hub({ namespace })
      const made = await peers(session, ['ours', 'ours'], { hub, place: { sender: { namespace }, receiver: { namespace } } })
      const saveDir = session.newFolder('copies', file.folder)
      for (const which of ['first', 'second']) {
        const before = moved(await session.output('cat', ['/proc/net/dev'], { namespace }))
        const { seconds, took: [whole] } = await transfer(session, made, [file], { saveDir })
        const bytes = moved(await session.output('cat', ['/proc/net/dev'], { namespace })) - before
        measured[which].push({ bytes, seconds, whole: whole / 1000 })
      }
      fs.rmSync(saveDir, { recursive: true })
      await made.stop()
      await hub.stop()
    }
    return measured
  }
}

/** Bytes that interfaces have received, as /proc/net/dev tells them. */
function moved (text) {
  const counts = text.split('\n').map(line => /^\s*\S+:\s*(\d+)/.exec(line)).filter(Boolean)
  return counts.reduce((sum, [, bytes]) => sum + Number(bytes), 0)
}

module.exports = { again, command }
