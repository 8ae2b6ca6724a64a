'use strict'

// Offers by iterating, and what decides about them.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { identity } = require('..')
const { child, contents, failure, hub, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A hub, a sender `a` with `count` files, and a receiver `b`; `send(i)` sends one of the files. */
async function stage (t, count, options = {}) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const files = Array.from({ length: count }, (_, i) => makeFile(folder, `file ${i}`, 100 + i))
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b', options)]
  const send = (i, more) => a.send({ filePath: files[i].filePath, recipientId: 'b', ...more })
  return { url, folder, files, a, b, send, inbox: path.join(folder, 'inbox') }
}

test('offers come by iterating, those that were made before and between the turns too', LIMIT, async (t) => {
  const { b, folder, files, send, inbox } = await stage(t, 5)
  const sent = [send(0), send(1)]
  const names = []
  for await (const offer of b.offers()) {
    names.push(offer.fileName)
    if (names.length === 1) sent.push(send(2), send(3), send(4))
    const { filePath, hash } = await offer.accept({ saveDir: inbox })
    assert.equal(hash, sha256(fs.readFileSync(filePath)))
    if (names.length === 5) break
  }
  await Promise.all(sent)
  assert.deepEqual(names.sort(), files.map(file => path.basename(file.filePath)))
  assert.deepEqual(contents(inbox), names)
  assert.deepEqual(contents(folder).filter(name => name.endsWith('.part')), [])
})

test('what one iteration left, the next one is given, and what was withdrawn is left out', LIMIT, async (t) => {
  const { a, b, send, inbox } = await stage(t, 3)
  const controller = new AbortController()
  const offered = []
  a.on('offer_sent', ({ fileName }) => offered.push(fileName))
  const [withdrawn, ...sent] = [send(0, { signal: controller.signal }), send(1), send(2)]
  // All three are known here before the first is asked for.
  const seen = []
  const all = new Promise(resolve => b.on('file', (offer) => { if (seen.push(offer.fileName) === 3) resolve() }))
  b.watch()
  await all
  controller.abort()
  await assert.rejects(withdrawn, failure('ABORTED'))
  // That it is over has come to the receiver too by the time that what was offered after it has.
  const late = send(0)
  await once(b, 'file')
  const names = []
  while (names.length < 3) {
    for await (const offer of b.offers()) {
      names.push(offer.fileName)
      await offer.accept({ saveDir: inbox })
      break
    }
  }
  await Promise.all([...sent, late])
  assert.deepEqual([names.slice(0, 2).sort(), names[2]], [['file 1', 'file 2'], 'file 0'])
})

test('several who iterate over a channel share its offers, and other channels have theirs', LIMIT, async (t) => {
  const { b, send, inbox } = await stage(t, 6)
  const names = { some: [], others: [], elsewhere: [] }
  const take = async (who, offers, count) => {
    for await (const offer of offers) {
      names[who].push(offer.fileName)
      await offer.accept({ saveDir: inbox })
      if (--count === 0) break
    }
  }
  const elsewhere = take('elsewhere', b.offers({ channel: 'elsewhere' }), 2)
  const signal = new AbortController()
  const sharing = ['some', 'others'].map(who => take(who, b.offers({ signal: signal.signal }), Infinity))
  await Promise.all([0, 1, 2, 3].map(i => send(i)))
  await Promise.all([4, 5].map(i => send(i, { channel: 'elsewhere' })))
  await elsewhere
  signal.abort()
  await Promise.all(sharing)
  assert.deepEqual([...names.some, ...names.others].sort(), ['file 0', 'file 1', 'file 2', 'file 3'])
  assert.deepEqual(names.elsewhere.sort(), ['file 4', 'file 5'])
})

test('an iteration ends with its node, by its signal and by return, and throws the error of the node', LIMIT, async (t) => {
  const { b, url } = await stage(t, 0)
  const over = { done: true, value: undefined }
  const aborted = b.offers({ signal: AbortSignal.abort() })
  assert.deepEqual(await aborted.next(), over)
  const controller = new AbortController()
  const bySignal = b.offers({ signal: controller.signal })
  const waiting = [bySignal.next(), bySignal.next()]
  controller.abort()
  assert.deepEqual(await Promise.all([...waiting, bySignal.next()]), [over, over, over])
  const returned = b.offers()
  const waits = returned.next()
  assert.deepEqual(await returned.return(5), { done: true, value: 5 })
  assert.deepEqual([await waits, await returned.next()], [over, over])
  const disposed = b.offers()
  await disposed[Symbol.asyncDispose]()
  assert.deepEqual(await disposed.next(), over)
  await assert.rejects(b.offers().throw(new Error('thrown in')), /thrown in/)
  const [waits1, idle] = [b.offers(), b.offers()]
  const first = idle.next()
  const failed = assert.rejects(waits1.next(), /oops/)
  b.emit('offer_sent') // No event of another kind ends it.
  b.once('connected', () => { throw new Error('oops') })
  b.watch({ channel: 'another' })
  await failed
  await assert.rejects(first, /oops/)
  assert.deepEqual([await waits1.next(), await idle.next()], [over, over])
  const other = await node(t, url, 'c')
  const last = other.offers()
  const ends = last.next()
  await Promise.all([other.destroy(), ends])
  assert.deepEqual([await ends, await last.next()], [over, over])
  assert.throws(() => other.offers(), failure('DESTROYED'))
  assert.throws(() => b.offers({ channel: 5 }), failure('INVALID_ARGUMENT'))
})

test('a process waits for an offer, and for nothing when the iteration is over', LIMIT, async (t) => {
  const { url, send, folder } = await stage(t, 1)
  const program = `
    const { createNode } = require(${JSON.stringify(path.join(__dirname, '..'))})
    const [atsUrl, home] = process.argv.slice(1)
    createNode({ atsUrl, home, actorId: 'b' }).then(async (node) => {
      node.once('connected', () => console.log(JSON.stringify({ event: 'connected' })))
      for await (const offer of node.offers()) {
        await offer.accept({ saveDir: home })
        break
      }
    })`
  const process = child(t, ['-e', program, url, path.join(folder, 'home')])
  await process.line('connected')
  await send(0)
  const { code, stderr } = await process.ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
})

test('shouldAccept decides about each offer, with saveDir and without', LIMIT, async (t) => {
  const asked = []
  const { b, send, inbox } = await stage(t, 6, {
    async shouldAccept ({ accept, reject, ...offer }) {
      assert.deepEqual([accept, reject, offer.senderId, offer.channel], [undefined, undefined, 'a', 'p2p-transfer'])
      asked.push(offer.fileName)
      await null
      if (offer.fileName === 'file 1') return false
      if (offer.fileName === 'file 2') return 'not today'
      if (offer.fileName === 'file 3') throw new Error('what is it?')
      if (offer.fileName === 'file 4') return offer.fileSize < 100
      return true
    }
  })
  const errors = []
  b.on('error', error => errors.push(error.message))
  b.watch({ saveDir: inbox })
  const rejected = (i, why) => assert.rejects(send(i), failure('REJECTED', error => assert.match(error.message, why)))
  await Promise.all([
    send(0), rejected(1, /declined/), rejected(2, /not today/), rejected(3, /^(?!.*what is it)/), rejected(4, /declined/), send(5)
  ])
  assert.deepEqual(asked.sort(), ['file 0', 'file 1', 'file 2', 'file 3', 'file 4', 'file 5'])
  assert.deepEqual(contents(inbox), ['file 0', 'file 5'])
  assert.deepEqual(errors, ['what is it?'])
})

test("a watch's own shouldAccept comes before the node's, and what it takes is an offer like any other", LIMIT, async (t) => {
  const { b, send, inbox } = await stage(t, 3, { shouldAccept: () => false })
  const wrong = []
  b.on('error', error => wrong.push(error))
  let yes
  b.watch({ shouldAccept: ({ fileName }) => fileName === 'file 2' ? undefined : new Promise((resolve) => { yes = resolve }) })
  const asked = new Promise(resolve => b.once('file', resolve))
  const sent = send(0)
  await assert.rejects(send(2), failure('REJECTED'))
  assert.deepEqual(wrong.map(error => [error.code, error.message]), [
    ['ATS_P2P_INVALID_ARGUMENT', 'shouldAccept must give true, false or a reason']
  ])
  yes(true)
  const [offer] = [await asked]
  await Promise.all([offer.accept({ saveDir: inbox }), sent])
  await assert.rejects(send(1, { channel: 'elsewhere', timeout: 500 }), failure('OFFER_EXPIRED'), 'nobody watches there')
  const offers = b.offers({ channel: 'elsewhere' })
  const none = offers.next()
  await assert.rejects(send(1, { channel: 'elsewhere' }), failure('REJECTED'), "the node's decides there")
  await offers.return()
  assert.equal((await none).done, true)
})

test('an offer that is withdrawn while shouldAccept thinks is told of to nobody', LIMIT, async (t) => {
  const decisions = []
  const { b, send } = await stage(t, 2, { shouldAccept: () => new Promise(resolve => decisions.push(resolve)) })
  const heard = []
  b.on('file', offer => heard.push(offer.fileName))
  b.watch()
  const controller = new AbortController()
  const asked = async (count) => { while (decisions.length < count) await new Promise(setImmediate) }
  const withdrawn = send(0, { signal: controller.signal })
  await asked(1)
  controller.abort()
  await assert.rejects(withdrawn, failure('ABORTED'))
  const sent = send(1)
  await asked(2)
  decisions[0](true)
  decisions[1](true)
  const [offer] = await once(b, 'file')
  await Promise.all([offer.accept({ saveDir: tempFolder(t) }), sent])
  assert.deepEqual(heard, ['file 1'])
})

test('a node knows its own identity, which is the one that its peers see', LIMIT, async (t) => {
  const { url, folder, files } = await stage(t, 1)
  const home = path.join(folder, 'c')
  const c = await node(t, url, 'c', { home })
  assert.match(c.publicKey, /^[0-9a-f]{64}$/)
  assert.equal(c.publicKey, (await identity.show({ atsUrl: url, actorId: 'c', home })).identity)
  assert.notEqual((await node(t, url, 'd', { home })).publicKey, c.publicKey)
  assert.equal((await node(t, url, 'e', { identity: false })).publicKey, null)
  const b = await node(t, url, 'f')
  const sent = c.send({ filePath: files[0].filePath, recipientId: 'f' })
  for await (const offer of b.offers()) {
    const { peerIdentity } = await offer.accept({ saveDir: folder })
    assert.equal(peerIdentity, c.publicKey)
    break
  }
  assert.equal((await sent).peerIdentity, b.publicKey)
  const key = b.publicKey
  await b.destroy()
  assert.equal(b.publicKey, key)
  fs.writeFileSync(path.join(folder, 'damaged'), 'x', { mode: 0o600 })
  const damaged = await node(t, url, 'g', { identity: path.join(folder, 'damaged') })
  assert.throws(() => damaged.publicKey, failure('STATE'))
  await damaged.destroy()
  assert.throws(() => damaged.publicKey, failure('DESTROYED'))
})
