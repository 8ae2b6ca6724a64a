'use strict'

// One file from one process to another, and what it took.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { sha256 } = require('../session')

/** A sender and a receiver, both up and known to the hub. `place` says where each one runs. */
async function peers (session, [sender, receiver], { hub, place = {} } = {}) {
  const ownHub = hub ?? await session.hub()
  const [from, to] = await Promise.all([
    session.peer(sender, ownHub, place.sender),
    session.peer(receiver, ownHub, place.receiver)
  ])
  await to.call('listen')
  return {
    from,
    to,
    async stop () {
      await Promise.all([from.stop(), to.stop()])
      if (!hub) await ownHub.stop()
    }
  }
}

/**
 * Sends files to an empty folder, which goes afterwards, or to `saveDir`. `seconds` from the first claim to the last
 * verified file, `connected` from the first connection on; `cpu`, processor seconds of both processes, the sender's
 * first hash included; `peak`, the most memory that each process held beyond what it held before. `check` may be what
 * looks at what was received, in place of the usual comparison of hashes. Where a file has several paths, they are one
 * offer.
 */
async function transfer (session, { from, to }, files, { parallel = 1, check = true, saveDir: kept } = {}) {
  const saveDir = kept ?? session.newFolder('copies', path.dirname([files[0].path].flat()[0]))
  try {
    const idle = [await from.call('idle'), await to.call('idle')]
    const before = [await from.call('usage'), await to.call('usage')]
    const receiving = to.call('receive', { saveDir, count: files.length })
    const sending = from.call('send', { files: files.map(file => file.path), to: to.actorId, parallel })
    const [received, took] = await Promise.all([receiving, sending])
    const after = [await from.call('usage'), await to.call('usage')]
    const last = Math.max(...received.map(({ verified }) => verified))
    if (check instanceof Function) await check(received)
    else if (check) await verify(received, files)
    return {
      bytes: files.reduce((sum, { size }) => sum + size, 0),
      seconds: (last - Math.min(...received.map(({ claimed }) => claimed))) / 1000,
      connected: (last - Math.min(...received.map(({ connected }) => connected))) / 1000,
      cpu: { sender: after[0].cpu - before[0].cpu, receiver: after[1].cpu - before[1].cpu },
      peak: { sender: after[0].peak - idle[0], receiver: after[1].peak - idle[1] },
      took
    }
  } finally {
    if (!kept) fs.rmSync(saveDir, { recursive: true, force: true })
  }
}

async function verify (received, files) {
  const wanted = files.map(({ hash }) => hash).sort()
  const found = await Promise.all(received.map(({ filePath }) => sha256(filePath)))
  assert.deepEqual(found.sort(), wanted, 'a copy differs')
}

/** The same between processes that nothing else has used, over a hub of their own unless one is given. */
async function freshTransfer (session, pair, files, options) {
  const made = await peers(session, pair, options)
  try {
    return await transfer(session, made, files, options)
  } finally {
    await made.stop()
  }
}

module.exports = { freshTransfer, peers, transfer }
