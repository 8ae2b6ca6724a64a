'use strict'

// Files that are on no disk: bytes in memory and streams, sent and received.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { Readable } = require('node:stream')
const { test } = require('node:test')
const vm = require('node:vm')
const { cli, contents, failure, hub, nextOffer, node, sha256, tempFolder } = require('./fixtures/harness')
const { allocate, receive } = require('../lib/received')
const { stream: runThrough } = require('./streams')

const LIMIT = { timeout: 120_000 }
const onUnix = { ...LIMIT, skip: process.platform === 'win32' && 'it has no named pipes of this kind' }

/** A hub, an agent, and another one that saves what it is sent. */
async function pair (t) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'in')
  const [a, b] = [await node(t, url, 'a', { home: path.join(folder, 'home') }), await node(t, url, 'b')]
  b.watch({ saveDir })
  return { url, folder, saveDir, a, b }
}

test('bytes of any kind arrive as a file of the name that is given', LIMIT, async (t) => {
  const { a, saveDir } = await pair(t)
  const bytes = crypto.randomBytes(100_000)
  const shared = new Uint8Array(new SharedArrayBuffer(3))
  shared.set([1, 2, 3])
  const sent = {
    buffer: bytes,
    part: bytes.subarray(10, 20),
    uint8: new Uint8Array([1, 2, 3]),
    words: new Uint16Array([1, 2, 3]),
    array: Uint8Array.from(bytes).buffer,
    foreign: vm.runInNewContext('new Uint8Array([7, 8]).buffer'),
    shared,
    text: 'größe €',
    nothing: '',
    blob: new Blob(['a', new Uint8Array([98])]),
    empty: new Blob([])
  }
  for (const [fileName, data] of Object.entries(sent)) {
    const result = await a.send({ data, fileName, recipientId: 'b' })
    const expected = typeof data === 'string' ? Buffer.from(data) : data instanceof Blob ? Buffer.from(await data.arrayBuffer()) : Buffer.from(data.buffer ?? data, data.byteOffset, data.byteLength)
    assert.ok(fs.readFileSync(path.join(saveDir, fileName)).equals(expected), fileName)
    assert.deepEqual([result.size, result.hash], [expected.length, sha256(expected)], fileName)
  }
  // What is written to it later was not sent.
  const data = Buffer.from('before')
  const sending = a.send({ data, fileName: 'copied', recipientId: 'b' })
  data.write('after!')
  await sending
  assert.equal(fs.readFileSync(path.join(saveDir, 'copied'), 'utf8'), 'before')
  const file = await import('node:buffer').then(({ File }) => new File(['of a File'], 'named.txt'))
  await a.send({ data: file, recipientId: 'b' })
  assert.equal(fs.readFileSync(path.join(saveDir, 'named.txt'), 'utf8'), 'of a File')
})

test('streams of any kind arrive whole, and a file under another name', LIMIT, async (t) => {
  const { a, saveDir, folder } = await pair(t)
  const bytes = crypto.randomBytes(3_000_000)
  const chunks = function * () { for (let at = 0; at < bytes.length; at += 70_001) yield bytes.subarray(at, at + 70_001) }
  // As a reader of files may do.
  const reused = async function * () {
    const buffer = Buffer.alloc(70_001)
    for (let at = 0; at < bytes.length; at += buffer.length) yield buffer.subarray(0, bytes.copy(buffer, 0, at))
  }
  for (const [fileName, stream] of Object.entries({
    reused: reused(),
    readable: Readable.from(chunks(), { objectMode: false }),
    web: ReadableStream.from(chunks()),
    iterable: chunks(),
    async: (async function * () { yield * chunks() })()
  })) {
    const { hash } = await a.send({ stream, fileName, recipientId: 'b' })
    assert.equal(hash, sha256(bytes))
    assert.ok(fs.readFileSync(path.join(saveDir, fileName)).equals(bytes), fileName)
  }
  await a.send({ stream: ['größe', new Uint8Array([10]), ''], fileName: 'text', recipientId: 'b' })
  assert.equal(fs.readFileSync(path.join(saveDir, 'text'), 'utf8'), 'größe\n')
  await a.send({ stream: [], fileName: 'empty', recipientId: 'b' })
  assert.equal(fs.readFileSync(path.join(saveDir, 'empty')).length, 0)
  fs.writeFileSync(path.join(folder, 'x'), 'x')
  await a.send({ filePath: path.join(folder, 'x'), fileName: 'other.txt', recipientId: 'b' })
  assert.equal(fs.readFileSync(path.join(saveDir, 'other.txt'), 'utf8'), 'x')
})

test('what makes no sense is refused before anything is read', LIMIT, async (t) => {
  const { a } = await pair(t)
  const over = Readable.from(['x']).destroy()
  const read = Readable.from(['x'])
  for await (const _ of read);
  const begun = Readable.from(['x', 'y'])
  await once(begun, 'readable')
  begun.read()
  const consumed = ReadableStream.from(['x'])
  for await (const _ of consumed);
  const locked = ReadableStream.from(['x'])
  locked.getReader()
  const gone = new Uint8Array(4)
  structuredClone(gone.buffer, { transfer: [gone.buffer] })
  for (const [options, message] of [
    [{ data: 'x' }, /fileName is required with data/],
    [{ stream: ['x'] }, /fileName is required with stream/],
    [{ data: 'x', filePath: '/x', fileName: 'x' }, /filePath and data are given, and only one/],
    [{ data: 'x', stream: ['x'], fileName: 'x' }, /data and stream are given/],
    [{ data: 5, fileName: 'x' }, /data must be a string, bytes or a Blob, not 5/],
    [{ data: 'x', fileName: 'a/b' }, /fileName must be the name of a file, and no path/],
    [{ data: 'x', fileName: '..' }, /fileName must be/],
    [{ data: 'x', fileName: 'x', maxBytes: 5 }, /maxBytes goes with a stream/],
    [{ stream: 'text', fileName: 'x' }, /stream must be a stream or an iterable/],
    [{ stream: {}, fileName: 'x' }, /stream must be/],
    [{ stream: over, fileName: 'x' }, /destroyed/],
    [{ stream: read, fileName: 'x' }, /read from already/],
    [{ stream: begun, fileName: 'x' }, /read from already/],
    [{ stream: consumed, fileName: 'x' }, /read from already/],
    [{ data: gone, fileName: 'x' }, /buffer was transferred/],
    [{ stream: [gone], fileName: 'x' }, /buffer was transferred/],
    [{ stream: locked, fileName: 'x' }, /read by another/],
    [{ stream: ['x', 5], fileName: 'x' }, /chunks of the stream must be bytes or strings, not 5/]
  ]) {
    await assert.rejects(a.send({ recipientId: 'b', ...options }), failure('INVALID_ARGUMENT', error => assert.match(error.message, message)))
  }
})

test('a stream that fails, is too long or is given up rejects the send, and is destroyed', LIMIT, async (t) => {
  const { url, a } = await pair(t)
  const cause = new Error('the source is gone')
  const failing = new Readable({ read () { this.destroy(cause) } })
  await assert.rejects(a.send({ stream: failing, fileName: 'x', recipientId: 'b' }), failure('NOT_READABLE', error => assert.equal(error.cause, cause)))

  let asked = 0
  const endless = new Readable({ read () { asked++; this.push(Buffer.alloc(65_536)) } })
  await assert.rejects(a.send({ stream: endless, fileName: 'x', recipientId: 'b', maxBytes: 1_000_000 }), failure('TOO_LARGE', error => assert.match(error.message, /1000000 bytes.*maxBytes/)))
  assert.ok(endless.destroyed && asked < 50, `${asked} chunks were asked for`)

  for (const make of [() => new Readable({ read () {} }), () => new ReadableStream({ cancel: () => { cancelled = true } })]) {
    var cancelled = false
    const stream = make()
    const controller = new AbortController()
    const sending = a.send({ stream, fileName: 'x', recipientId: 'b', signal: controller.signal })
    controller.abort()
    await assert.rejects(sending, failure('ABORTED'))
    assert.ok(cancelled || stream.destroyed)
  }
  const early = new Readable({ read () {} })
  await assert.rejects(a.send({ stream: early, fileName: 'x', recipientId: 'b', signal: AbortSignal.abort() }), failure('ABORTED'))
  const silent = new Readable({ read () {} })
  const sending = a.send({ stream: silent, fileName: 'x', recipientId: 'b' })
  await Promise.all([assert.rejects(sending, failure('DESTROYED')), a.destroy()])
  const late = new Readable({ read () {} })
  await assert.rejects(a.send({ stream: late, fileName: 'x', recipientId: 'b' }), failure('DESTROYED'))
  assert.deepEqual([early, silent, late].map(({ destroyed }) => destroyed), [true, true, true])
  const { tasks } = await fetch(`${url}/tasks?type=file_offer&limit=100`).then(answer => answer.json())
  assert.deepEqual(tasks, [])
})

test('an idempotency key stands for the bytes, wherever they come from', LIMIT, async (t) => {
  const { a, saveDir } = await pair(t)
  const send = options => a.send({ recipientId: 'b', idempotencyKey: 'k', ...options })
  const first = await send({ data: 'abc', fileName: 'x' })
  const again = await send({ stream: ['a', 'bc'], fileName: 'y' })
  assert.deepEqual([again.transferId, again.replayed], [first.transferId, true])
  await assert.rejects(send({ data: 'abd', fileName: 'x' }), failure('KEY_REUSED'))
  assert.deepEqual(contents(saveDir), ['x'])
})

test('an offer of bytes that went with their process is withdrawn by the next one', LIMIT, async (t) => {
  const { url } = await hub(t)
  const home = path.join(tempFolder(t), 'home')
  const sender = cli(t, ['send', '-', '--name', 'x', '--to', 'nobody', '--actor-id', 'a', '--json'], { env: { ATS_URL: url, ATS_P2P_HOME: home }, stdio: ['pipe', 'pipe', 'pipe'], input: 'abc' })
  const { transferId } = await sender.line('offer_sent')
  sender.kill('SIGKILL')
  await sender.ended
  const next = await node(t, url, 'a', { home })
  const failed = once(next, 'transfer_failed')
  const [offer] = await next.resumeOffers()
  assert.deepEqual([offer.transferId, offer.fileName, offer.success], [transferId, 'x', false])
  assert.equal(offer.error.code, 'ATS_P2P_SOURCE_CHANGED')
  assert.match(offer.error.message, /x went with the process/)
  assert.equal((await failed)[0].transferId, transferId)
  assert.equal((await next.status(transferId)).status, 'cancelled')
  assert.deepEqual(await next.resumeOffers(), [])
})

test('the shell sends what it is given by pipes, and asks for a name where there is none', onUnix, async (t) => {
  const { url, saveDir, folder } = await pair(t)
  const options = { env: { ATS_URL: url, ATS_ACTOR_ID: 'a', ATS_P2P_HOME: path.join(folder, 'shell') } }
  const stdin = await cli(t, ['send', '-', '--to', 'b', '--name', 'stdin'], { ...options, input: 'by stdin' }).ended
  assert.equal(stdin.code, 0, stdin.stderr)
  const pipe = path.join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  const sending = cli(t, ['send', pipe, '--to', 'b'], options)
  fs.promises.writeFile(pipe, 'by a pipe')
  assert.equal((await sending.ended).code, 0)
  for (const name of ['stdin', 'pipe']) assert.equal(fs.readFileSync(path.join(saveDir, name), 'utf8'), `by ${name === 'pipe' ? 'a pipe' : name}`)
  // Nobody comes to write to it, or somebody writes nothing.
  for (const open of [async () => {}, () => fs.promises.open(pipe, 'w')]) {
    const waiting = cli(t, ['send', pipe, '--to', 'b'], options)
    const writer = await open()
    waiting.kill('SIGTERM')
    assert.notEqual((await waiting.ended).code, 0)
    await writer?.close()
  }
  // What is wrong is said at once, whoever holds the other end.
  const [wrong, writer] = await Promise.all([cli(t, ['send', pipe, '--to', 'b', '--name', 'a/b'], options).ended, fs.promises.open(pipe, 'w')])
  assert.equal(wrong.code, 2, wrong.stderr)
  await writer.close()
  const long = await cli(t, ['send', '-', '--to', 'b', '--name', 'x', '--max-bytes', '3'], { ...options, input: 'four' }).ended
  assert.equal(long.code, 15, long.stderr)
  assert.match(long.stderr, /more than the 3 bytes.*--max-bytes allows more/)
  for (const [args, message] of [
    [['-'], /--name is required/],
    [['-', '--name', 'x', '--detach'], /--detach needs a file/],
    [[pipe, '--detach'], /--detach needs a file/]
  ]) {
    const { code, stderr } = await cli(t, ['send', ...args, '--to', 'b'], { ...options, input: 'x' }).ended
    assert.equal(code, 2, stderr)
    assert.match(stderr, message)
  }
})

/** A hub, and two agents of whom the second decides on each offer. */
async function deciding (t, options) {
  const { url } = await hub(t)
  const [a, b] = [await node(t, url, 'a', options), await node(t, url, 'b', options)]
  b.watch()
  return { url, a, b }
}

/** Sends bytes to `b`, and gives the offer and what becomes of the send. */
async function offered (a, b, data) {
  const sending = a.send({ data, fileName: 'x', recipientId: 'b' })
  sending.catch(() => {})
  return { sending, offer: await nextOffer(b) }
}

test('a file is taken as a stream, as a web stream and as a buffer', LIMIT, async (t) => {
  const { a, b } = await deciding(t)
  const data = crypto.randomBytes(5_000_000)
  const read = async (source) => {
    const chunks = []
    for await (const chunk of source) chunks.push(chunk)
    return Buffer.concat(chunks)
  }
  for (const [bytes, take] of [
    [data, async offer => read(await offer.accept())],
    [data, async offer => read((await offer.accept({ stream: true })).web())],
    [data, offer => offer.accept({ buffer: true })],
    [Buffer.alloc(0), async offer => read(await offer.accept())],
    [Buffer.alloc(0), offer => offer.accept({ buffer: true })]
  ]) {
    const { offer, sending } = await offered(a, b, bytes)
    const complete = once(b, 'transfer_complete')
    assert.ok((await take(offer)).equals(bytes))
    assert.equal((await sending).hash, sha256(bytes))
    assert.equal((await complete)[0].filePath, undefined)
  }
  const { offer, sending } = await offered(a, b, data)
  const stream = await offer.accept()
  stream.resume()
  const { hash, size, success, filePath } = await stream.result
  assert.deepEqual([hash, size, success, filePath], [sha256(data), data.length, true, undefined])
  await Promise.all([sending, once(stream, 'end')])
})

test('what is too large for memory is refused before it is claimed, and the offer stands', LIMIT, async (t) => {
  const { a, b } = await deciding(t)
  const { offer, sending } = await offered(a, b, 'four')
  await assert.rejects(offer.accept({ buffer: true, maxBytes: 3 }), failure('TOO_LARGE', error => assert.match(error.message, /4 bytes.*3.*maxBytes/)))
  for (const [target, message] of [
    [{ buffer: true, stream: true }, /only one/],
    [{ buffer: true, saveDir: '/x' }, /only one/],
    [{ stream: true, maxBytes: 5 }, /goes with buffer/],
    [{ saveDir: '/x', maxBytes: 5 }, /goes with buffer/],
    [{ saveDir: '/x', overwrite: true }, /overwrite goes with a path/],
    [{ stream: false }, /saveDir is required/]
  ]) await assert.rejects(offer.accept(target), failure('INVALID_ARGUMENT', error => assert.match(error.message, message)))
  assert.equal((await offer.accept({ buffer: true, maxBytes: 4 })).toString(), 'four')
  await sending
  // Nor is one claimed for which there is no memory, whatever is allowed.
  assert.throws(() => allocate(2 ** 52, { fileName: 'x' }), failure('TOO_LARGE', error => assert.match(error.message, /the offer still stands/)))
})

test('bytes that are here a moment after their transfer is over are none the less given', LIMIT, async () => {
  const parts = [Buffer.from('late'), null]
  const outlet = { read: () => new Promise(resolve => setImmediate(resolve, parts.shift())) }
  const stream = await receive(outlet, Promise.resolve({ success: true }), () => {})
  assert.equal((await stream.collect(Buffer.alloc(4))).toString(), 'late')
})

test('a stream that is destroyed early ends the transfer, and the sender is told', LIMIT, async (t) => {
  const { a, b } = await deciding(t)
  for (const leave of [
    async (offer) => { for await (const _ of await offer.accept()) break },
    async (offer) => { await (await offer.accept()).web().cancel() },
    async (offer) => {
      const controller = new AbortController()
      const stream = await offer.accept({ stream: true, signal: controller.signal })
      controller.abort()
      await assert.rejects(async () => { for await (const _ of stream); }, failure('ABORTED'))
    }
  ]) {
    const { offer, sending } = await offered(a, b, Buffer.alloc(30_000_000))
    const failed = once(b, 'transfer_failed')
    await leave(offer)
    assert.equal((await failed)[0].code, 'ATS_P2P_ABORTED')
    await assert.rejects(sending, failure('REMOTE_ERROR', error => assert.match(error.message, /ABORTED/)))
  }
  // Nothing can be read of what is not offered any more.
  const { offer, sending } = await offered(a, b, 'x')
  await offer.reject()
  await assert.rejects(sending, failure('REJECTED'))
  await assert.rejects(offer.accept(), failure('ALREADY_ANSWERED'))
})

test('a stream goes on where it was when the receiver was away from the network', LIMIT, async (t) => {
  const { a, b } = await deciding(t)
  const data = crypto.randomBytes(30_000_000)
  const { offer, sending } = await offered(a, b, data)
  const hash = crypto.createHash('sha256')
  let starts = 0
  b.on('peer_connected', () => starts++)
  let isFirst = true
  for await (const chunk of await offer.accept()) {
    hash.update(chunk)
    if (!isFirst) continue
    isFirst = false
    await b.suspend()
    await b.resume()
  }
  assert.equal(hash.digest('hex'), sha256(data))
  assert.equal((await sending).hash, sha256(data))
  assert.equal(starts, 2)
})

test('the shell writes a file to stdout, and says by its exit code whether it is whole', LIMIT, async (t) => {
  const { url } = await hub(t)
  const a = await node(t, url, 'a')
  const listener = cli(t, ['listen', '--stdout', '--actor-id', 'b'], { env: { ATS_URL: url } })
  await a.send({ data: 'one\ntwo', fileName: 'x', recipientId: 'b' })
  const { code, stdout, stderr } = await listener.ended
  assert.deepEqual([code, stdout], [0, 'one\ntwo'])
  assert.match(stderr, /Listening as b[^]*Received x, SHA-256/)
  const cut = cli(t, ['listen', '--stdout', '--actor-id', 'c'], { env: { ATS_URL: url } })
  const controller = new AbortController()
  const sending = a.send({ data: Buffer.alloc(200_000_000), fileName: 'x', recipientId: 'c', signal: controller.signal, onProgress: ({ bytesSent }) => bytesSent > 0 && controller.abort() })
  await assert.rejects(sending, failure('ABORTED'))
  assert.notEqual((await cut.ended).code, 0)
  const unread = cli(t, ['listen', '--stdout', '--actor-id', 'd'], { env: { ATS_URL: url } })
  unread.hangUp()
  // Of a file of one batch all may be taken before it shows that nobody reads.
  await assert.rejects(a.send({ data: Buffer.alloc(8_000_000), fileName: 'x', recipientId: 'd' }), failure('REMOTE_ERROR'))
  const lost = await unread.ended
  assert.equal(lost.code, 4, lost.stderr)
  assert.match(lost.stderr, /x can't be written to stdout/)
})

test('a file that an earlier process has left is not the one that goes to stdout', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [a, slow] = [await node(t, url, 'a'), await node(t, url, 'slow', { maxRate: 10e6 })]
  const place = { cwd: folder, env: { ATS_URL: url, ATS_P2P_HOME: path.join(folder, 'home') } }
  const left = crypto.randomBytes(8_000_000)
  const sending = slow.send({ data: left, fileName: 'left', recipientId: 'b' })
  const killed = cli(t, ['listen', '--json', '--actor-id', 'b'], place)
  await killed.moving()
  killed.kill('SIGKILL')
  await killed.ended
  const listener = cli(t, ['listen', '--stdout', '--actor-id', 'b'], place)
  assert.equal((await sending).hash, sha256(left))
  await a.send({ data: 'asked for', fileName: 'x', recipientId: 'b' })
  const { code, stdout } = await listener.ended
  assert.deepEqual([code, stdout], [0, 'asked for'])
  assert.deepEqual(contents(path.join(folder, 'incoming')), ['left'])
})

test('a stream is sent and received at the pace of its reader, in little memory', LIMIT, async (t) => {
  const { hash, received, spread, lead } = await runThrough(t, { bytes: 24 * 1024 ** 2, rate: 24e6 })
  assert.equal(received, hash)
  // The sender is never further than what is on its way.
  assert.ok(lead < 16 * 1024 ** 2, `the sender was ${lead} bytes ahead`)
  assert.ok(spread >= 0)
})
