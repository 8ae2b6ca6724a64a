'use strict'

// Files from one node of ours to another, signalled by the hub.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { AtsP2pError } = require('..')
const { AtsHttp } = require('./fixtures/ats-http')
const { cli, contents, failure, hub, makeFile, nextOffer, node, phases, tempFolder } = require('./fixtures/harness')

const SIZES = [0, 1, 65_535, 65_536, 65_537, 5_000_001]

const NAMES = ['with some spaces .bin', 'Übergröße – naïve.txt', '数据文件.csv', 'данные 📦.tar.gz', "it's; $(a) `b` & \"c\"", '-rf', '.hidden']

test('files of every size arrive whole, with the events and results of the original', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch()
  for (const size of SIZES) {
    const file = makeFile(folder, `${size}.bin`, size)
    const target = path.join(folder, `${size}.copy`)
    const seen = record(a)
    const taken = record(b)
    const progress = []
    const [phasesSent, phasesTaken] = [phases(a), phases(b)]
    const sent = a.send({ filePath: file.filePath, recipientId: 'b', onProgress: p => progress.push(p) })
    const offer = await nextOffer(b)
    assert.equal(offer.fileName, `${size}.bin`)
    assert.equal(offer.fileSize, size)
    assert.equal(offer.fileHash, file.hash)
    assert.equal(offer.senderId, 'a')
    assert.equal(offer.task.payload.filename, `${size}.bin`)
    const received = await offer.accept(target)
    assert.equal(received.success, true)
    assert.equal(received.filePath, target)
    assert.equal(received.hash, file.hash)
    const { transferId, taskId, success, connection } = await sent
    for (const { path, rttMs, connectMs, remoteAddress } of [connection, received.connection]) {
      assert.equal(path, 'lan')
      assert.ok(rttMs > 0 && connectMs > 0, `${rttMs} ${connectMs}`)
      assert.match(remoteAddress, /^127\.0\.0\.1:\d+$/)
    }
    assert.equal(success, true)
    assert.equal(taskId, offer.task.id)
    assert.deepEqual(fs.readFileSync(target), file.bytes)
    assert.deepEqual(progress.at(-1), { bytesSent: size, totalBytes: size, phase: 'verifying', bytes: size, rate: null, eta: null })

    assert.deepEqual(phasesSent(), ['hashing', 'waiting', 'connecting', 'transferring', 'verifying'])
    assert.deepEqual(phasesTaken(), phasesSent().slice(1))
    assert.deepEqual([...new Set(progress.map(({ phase }) => phase))], phasesSent())
    assert.ok(progress.every(({ bytesSent, phase }) => bytesSent === 0 || ['transferring', 'verifying'].includes(phase)))
    assert.ok(progress.every(({ bytesSent }, i) => i === 0 || bytesSent >= progress[i - 1].bytesSent))

    const base = { transferId, taskId }
    assert.deepEqual(seen().map(({ name }) => name), ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
    assert.deepEqual(taken().map(({ name }) => name), ['file', 'peer_connected', 'transfer_start', 'transfer_complete'])
    for (const { payload } of [...seen(), ...taken()]) assert.deepEqual({ transferId: payload.transferId, taskId: payload.taskId }, base)
    assert.equal(seen()[0].payload.fileName, `${size}.bin`)
    assert.equal(seen()[0].payload.recipientId, 'b')
    assert.equal(taken()[3].payload.filePath, target)

    const task = await a.status(taskId)
    assert.equal(task.status, 'completed')
    assert.deepEqual(await a.status(transferId), task)
  }
  assert.deepEqual(contents(folder).filter(name => name.startsWith('.')), [])
})

test('files that follow each other come on one connection, and those at once on several', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'in')
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch({ saveDir })
  const ats = new AtsHttp(url, 'reader')
  const send = async (name) => {
    const file = makeFile(folder, name, 10_000)
    const { taskId, hash } = await a.send({ filePath: file.filePath, recipientId: 'b' })
    assert.equal(hash, file.hash)
    assert.deepEqual(fs.readFileSync(path.join(saveDir, name)), file.bytes)
    return (await ats.get(taskId)).payload.p2p.key
  }
  const first = await send('1')
  assert.equal(await send('2'), first)
  const keys = await Promise.all(['3', '4', '5'].map(send))
  assert.equal(new Set(keys).size, 3)
  assert.ok(keys.includes(first))
})

test('names with spaces, signs and letters of other scripts are kept', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'made', 'for it')
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch({ saveDir })
  for (const name of NAMES) {
    const file = makeFile(folder, name, 100)
    const complete = once(b, 'transfer_complete')
    await a.send({ filePath: file.filePath, recipientId: 'b' })
    const [{ filePath, fileName }] = await complete
    assert.equal(path.dirname(filePath), saveDir)
    assert.equal(path.basename(filePath), fileName)
    assert.deepEqual(fs.readFileSync(filePath), file.bytes)
    if (!/^-/.test(name) && !/["`]/.test(name)) assert.equal(fileName, name.normalize('NFC'))
  }
})

test('a save folder never loses a file: a taken name gets a number', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'in')
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch({ saveDir })
  const files = []
  for (let i = 0; i < 3; i++) {
    const file = makeFile(folder, 'same.txt', 10 + i)
    const complete = once(b, 'transfer_complete')
    await a.send({ filePath: file.filePath, recipientId: 'b' })
    const [{ filePath }] = await complete
    files.push({ filePath, bytes: file.bytes })
  }
  assert.equal(new Set(files.map(({ filePath }) => filePath)).size, 3)
  assert.equal(files[0].filePath, path.join(saveDir, 'same.txt'))
  for (const { filePath, bytes } of files) assert.deepEqual(fs.readFileSync(filePath), bytes)
  assert.equal(contents(saveDir).length, 3)
})

test('accept replaces what stands at its path, unless told otherwise', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'new', 1000)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch()
  const target = path.join(folder, 'target')
  fs.writeFileSync(target, 'old')

  let sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  let offer = await nextOffer(b)
  await assert.rejects(offer.accept(target, { overwrite: false }), failure('ALREADY_EXISTS'))
  assert.equal(fs.readFileSync(target, 'utf8'), 'old')
  // The offer still stands: it was not claimed.
  await Promise.all([offer.accept(target), sent])
  assert.deepEqual(fs.readFileSync(target), file.bytes)

  sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  offer = await nextOffer(b)
  const [{ filePath }] = await Promise.all([offer.accept({ saveDir: folder }), sent])
  assert.notEqual(filePath, file.filePath)
  assert.equal(path.dirname(filePath), folder)
})

test('offers that were made before the watch began are found', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a')
  const offered = once(a, 'offer_sent')
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  await offered
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  await sent
})

test('a channel of its own, and only that', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  const other = await node(t, url, 'b')
  other.on('file', () => assert.fail('an offer on another channel'))
  other.watch()
  b.watch({ channel: 'elsewhere', saveDir: path.join(folder, 'in') })
  await a.send({ filePath: file.filePath, recipientId: 'b', channel: 'elsewhere' })
})

test('the recipient says no', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 10)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch()
  const failed = []
  a.on('transfer_failed', event => failed.push(event))
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  sent.catch(() => {})
  const offer = await nextOffer(b)
  await offer.reject('no room today')
  await assert.rejects(sent, failure('REJECTED', (error) => {
    assert.ok(error instanceof AtsP2pError)
    assert.match(error.message, /no room today/)
    assert.equal(error.transferId, offer.transferId)
    assert.equal(failed.length, 1)
    assert.match(failed[0].reason, /no room today/)
    assert.equal(failed[0].code, 'ATS_P2P_REJECTED')
    assert.equal(failed[0].transferId, error.transferId)
  }))
  assert.equal((await a.status(offer.transferId)).status, 'rejected')
})

test('nobody accepts in time', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 10)
  const a = await node(t, url, 'a')
  const [sent] = await Promise.allSettled([a.send({ filePath: file.filePath, recipientId: 'b', timeout: 300 })])
  failure('OFFER_EXPIRED')(sent.reason)
  assert.equal(sent.reason.retryable, true)
  assert.equal((await a.status(sent.reason.transferId)).status, 'cancelled')
})

test('a sender who is not on the list, and a file that is too large, do not get through', { timeout: 30_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const small = makeFile(folder, 'small', 100)
  const large = makeFile(folder, 'large', 101)
  const friend = await node(t, url, 'friend')
  const stranger = await node(t, url, 'stranger')
  const b = await node(t, url, 'b', { allowedPeers: ['friend'], maxFileSize: 100 })
  b.watch({ saveDir: path.join(folder, 'in') })
  await assert.rejects(stranger.send({ filePath: small.filePath, recipientId: 'b', timeout: 3000 }), AtsP2pError)
  await assert.rejects(friend.send({ filePath: large.filePath, recipientId: 'b', timeout: 3000 }), AtsP2pError)
  assert.deepEqual(contents(path.join(folder, 'in')), [])
  await friend.send({ filePath: small.filePath, recipientId: 'b' })
  assert.deepEqual(contents(path.join(folder, 'in')), ['small'])
})

test('ten sends at once from one node', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const files = Array.from({ length: 10 }, (_, i) => makeFile(folder, `${i}.bin`, 300_000 + i))
  await Promise.all(files.map(({ filePath }) => a.send({ filePath, recipientId: 'b' })))
  for (const { filePath, bytes } of files) {
    assert.deepEqual(fs.readFileSync(path.join(folder, 'in', path.basename(filePath))), bytes)
  }
})

test('ten sends at once from ten processes of one actor with one home', { timeout: 120_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const files = Array.from({ length: 10 }, (_, i) => makeFile(folder, `${i}.bin`, 300_000 + i))
  const env = { ATS_P2P_HOME: path.join(folder, 'home') }
  const processes = files.map(({ filePath }) => cli(t, ['send', filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url], { env }))
  for (const { ended } of processes) {
    const { code, stderr } = await ended
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  }
  for (const { filePath, bytes } of files) {
    assert.deepEqual(fs.readFileSync(path.join(folder, 'in', path.basename(filePath))), bytes)
  }
})

/** Collects what a node emits from here on; progress left out. */
function record (emitter) {
  const names = ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete', 'transfer_failed', 'file', 'error']
  const events = []
  for (const name of names) emitter.on(name, payload => events.push({ name, payload }))
  return () => events.filter(({ payload }) => payload.transferId === events[0].payload.transferId)
}
