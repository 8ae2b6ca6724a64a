'use strict'

// The fixture against itself: what it says about the package is worth something only if two of it agree.

const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const createTestnet = require('hyperdht/testnet')
const { defer, hub, tempFolder } = require('./fixtures/harness')
const { OriginalPeer } = require('./fixtures/original-peer')

const BOTH = { server: true, client: true }
const SERVER = { server: true, client: false }
const CLIENT = { server: false, client: true }

for (const [split, sender, receiver] of [
  ['plain', BOTH, BOTH],
  ['bytes', SERVER, CLIENT],
  ['headers', CLIENT, SERVER],
  ['merged', BOTH, BOTH]
]) {
  test(`two original peers, writes cut the way "${split}"`, { timeout: 60_000 }, async (t) => {
    const folder = tempFolder(t)
    const testnet = await createTestnet(3)
    defer(t, () => testnet.destroy())
    const { url } = await hub(t)
    const peer = (actorId, join) => {
      const made = new OriginalPeer({ atsUrl: url, actorId, bootstrap: testnet.bootstrap, join, split, lookAgainMs: 1000 })
      defer(t, () => made.close())
      return made
    }
    const filePath = path.join(folder, 'file.bin')
    const bytes = crypto.randomBytes(300_001)
    fs.writeFileSync(filePath, bytes)
    fs.mkdirSync(path.join(folder, 'in'))

    const a = peer('a', sender)
    const b = peer('b', receiver)
    const received = b.receive({ saveDir: path.join(folder, 'in') })
    const sent = await a.send({ filePath, recipientId: 'b' })
    assert.equal(sent.success, true)
    const [result] = await received
    assert.deepEqual(fs.readFileSync(result.filePath), bytes)
  })
}
