'use strict'

// One file from one node to another, by a hub of this process; what a program that uses the package does.

const assert = require('node:assert')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const SIZE = 3_000_000

module.exports = async function exchange ({ createNode, startHub, AtsP2pError }) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-runtime-'))
  const hub = await startHub({ listen: '127.0.0.1:0', data: path.join(folder, 'hub') })
  const make = actorId => createNode({ atsUrl: hub.url, actorId, home: path.join(folder, actorId), timeout: 30_000 })
  const [a, b] = [await make('a'), await make('b')]
  try {
    const filePath = path.join(folder, 'data.bin')
    fs.writeFileSync(filePath, crypto.randomBytes(SIZE))
    b.watch()
    const offered = once(b, 'file')
    let progress = 0
    const sending = a.send({ filePath, recipientId: 'b', onProgress: () => { progress++ }, signal: new AbortController().signal })
    const [offer] = await offered
    assert.deepStrictEqual([offer.fileName, offer.fileSize], ['data.bin', SIZE])
    const received = await offer.accept(path.join(folder, 'received.bin'))
    const sent = await sending
    assert.ok(fs.readFileSync(filePath).equals(fs.readFileSync(received.filePath)))
    assert.strictEqual(sent.hash, received.hash)
    assert.ok(progress > 0)

    const refused = await a.send({ filePath: path.join(folder, 'none'), recipientId: 'b' }).catch(error => error)
    assert.ok(refused instanceof AtsP2pError && refused instanceof Error)
    assert.strictEqual(refused.code, 'ATS_P2P_FILE_NOT_FOUND')
    const misused = await a.send({ filePath, recipientId: 7 }).catch(error => error)
    assert.ok(misused instanceof TypeError)
    return sent
  } finally {
    await Promise.all([a.destroy(), b.destroy()])
    await hub.close()
    fs.rmSync(folder, { recursive: true, force: true })
  }
}
