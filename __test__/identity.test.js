'use strict'

// Who is at the other end: what a node is told of its peers, and whom it refuses.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const path = require('node:path')
const { test } = require('node:test')
const { createNode } = require('..')
const { tempFolder } = require('./fixtures/cleanup')
const { contents, failure, hub, makeFile, nextOffer, node } = require('./fixtures/harness')

/** Sends a file to `b`; what both sides were told. */
async function exchange (a, b, folder) {
  const { filePath, hash } = makeFile(folder, 'f', 1000)
  const sending = a.send({ filePath, recipientId: 'b' })
  const offer = await nextOffer(b)
  const received = await offer.accept(path.join(folder, 'g'))
  const sent = await sending
  assert.deepEqual([sent.hash, received.hash], [hash, hash])
  return { sent, offer, received }
}

const standing = ({ verified, firstUse }) => ({ verified, firstUse })

test('a peer is taken on faith once, and known by its identity from then on', async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  b.watch()
  const first = await exchange(a, b, folder)
  assert.match(first.offer.peerIdentity, /^[0-9a-f]{64}$/)
  assert.match(first.sent.peerIdentity, /^[0-9a-f]{64}$/)
  assert.notEqual(first.offer.peerIdentity, first.sent.peerIdentity)
  assert.equal(first.received.peerIdentity, first.offer.peerIdentity)
  const second = await exchange(a, b, folder)
  for (const told of ['sent', 'offer', 'received']) {
    assert.deepEqual(standing(first[told]), { verified: true, firstUse: true }, told)
    assert.deepEqual(standing(second[told]), { verified: true, firstUse: false }, told)
    assert.equal(second[told].peerIdentity, first[told].peerIdentity, told)
  }
})

test('a machine that takes a known name is refused by either end, with what to do', async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  b.watch()
  await exchange(a, b, folder)
  const { filePath } = makeFile(folder, 'f', 1000)
  const impostor = await node(t, url, 'a')
  const refused = once(b, 'transfer_failed')
  await assert.rejects(impostor.send({ filePath, recipientId: 'b' }), failure('REJECTED'))
  const [{ code, reason }] = await refused
  assert.equal(code, 'ATS_P2P_IDENTITY')
  assert.match(reason, /ats-p2p peers accept a [0-9a-f]{64}/)
  await b.destroy()
  const incoming = path.join(folder, 'in')
  const other = await node(t, url, 'b')
  other.watch({ saveDir: incoming })
  await assert.rejects(a.send({ filePath, recipientId: 'b' }), failure('IDENTITY'))
  await other.destroy()
  assert.deepEqual(contents(incoming), [])
})

test('an identity that is named for a peer is the only one that it may show', async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  b.watch()
  const { offer } = await exchange(a, b, folder)
  await b.destroy()
  const right = await node(t, url, 'b', { allowedPeers: [`a=${offer.peerIdentity}`] })
  right.watch()
  const wrong = await node(t, url, 'c', { allowedPeers: [`a=${'0'.repeat(64)}`] })
  wrong.watch()
  const { filePath } = makeFile(folder, 'f', 1000)
  const refused = once(wrong, 'transfer_failed')
  await assert.rejects(a.send({ filePath, recipientId: 'c' }), failure('REJECTED'))
  assert.equal((await refused)[0].code, 'ATS_P2P_IDENTITY')
  // A machine that never met the sender knows it all the same.
  const met = once(right, 'file')
  const sending = assert.rejects(a.send({ filePath, recipientId: 'b' }), failure('REJECTED'))
  const [told] = await met
  assert.deepEqual(standing(told), { verified: true, firstUse: false })
  await told.reject()
  await sending
})

test('what is no identity is no allowed peer', async () => {
  for (const peer of [`a=${'0'.repeat(63)}`, `a=${'0'.repeat(65)}`]) {
    await assert.rejects(createNode({ allowedPeers: [peer] }), failure('INVALID_ARGUMENT'))
  }
  await assert.rejects(createNode({ requireVerified: 'yes' }), failure('INVALID_ARGUMENT'))
})

test('a node without an identity is refused where one is required, and anywhere else only once it had one', async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'f', 1000)
  const anonymous = await node(t, url, 'a', { identity: false })
  const [b, strict] = [await node(t, url, 'b'), await node(t, url, 'strict', { requireVerified: true })]
  b.watch()
  strict.watch()
  const { offer, sent } = await exchange(anonymous, b, folder)
  assert.deepEqual([offer.peerIdentity, ...Object.values(standing(offer))], [null, false, false])
  assert.deepEqual(standing(sent), { verified: true, firstUse: true })
  const refused = once(strict, 'transfer_failed')
  await assert.rejects(anonymous.send({ filePath, recipientId: 'strict' }), failure('REJECTED'))
  assert.equal((await refused)[0].code, 'ATS_P2P_IDENTITY')
})
