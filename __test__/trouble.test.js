'use strict'

// Bad input and bad company: each a clear error, and nothing left behind.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { test } = require('node:test')
const { AtsP2pError } = require('..')
const { cli, contents, defer, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

test('what cannot be sent is refused before anything is offered', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  a.on('offer_sent', () => assert.fail('an offer was made'))
  const pipe = path.join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  const dangling = path.join(folder, 'dangling')
  fs.symlinkSync('nothing', dangling)
  for (const [filePath, code] of [
    [path.join(folder, 'none'), 'FILE_NOT_FOUND'],
    [dangling, 'FILE_NOT_FOUND'],
    [folder, 'NOT_A_FILE'],
    [pipe, 'NOT_A_FILE'],
    ['/dev/null', 'NOT_A_FILE']
  ]) {
    await assert.rejects(a.send({ filePath, recipientId: 'b' }), failure(code, error => assert.ok(error instanceof AtsP2pError)))
  }
})

test('a file that may not be read', LIMIT, async (t) => {
  const { url } = await hub(t)
  const { filePath } = makeFile(tempFolder(t), 'secret', 10)
  fs.chmodSync(filePath, 0)
  // Root may read everything, so that it has to step down first.
  const root = process.getuid() === 0
  const args = ['send', filePath, '--to', 'b', '--ats-url', url]
  if (root) fs.chmodSync(path.dirname(filePath), 0o755)
  const home = tempFolder(t)
  if (root) fs.chownSync(home, 65534, 65534)
  const identity = root ? { uid: 65534, gid: 65534 } : {}
  const { code, stderr } = await cli(t, args, { ...identity, cwd: home, env: { HOME: home, ATS_P2P_HOME: path.join(home, 'state') } }).ended
  assert.equal(code, 3, stderr)
  assert.match(stderr, /ATS_P2P_NOT_READABLE/)
})

test('no task service at the address', LIMIT, async (t) => {
  const { filePath } = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, 'http://127.0.0.1:9', 'a', { timeout: 2000 })
  await assert.rejects(a.send({ filePath, recipientId: 'b' }), failure('ATS_UNREACHABLE', error => assert.equal(error.retryable, true)))
  await assert.rejects(a.status('x'), failure('ATS_UNREACHABLE'))
  const b = await node(t, 'http://127.0.0.1:9', 'b')
  const disconnected = once(b, 'disconnected')
  b.watch()
  const [{ reason }] = await disconnected
  assert.ok(reason.length > 0)
})

for (const [what, status, type, body, code] of [
  ['answers 500', 500, 'application/json', '{"error":"out of order"}', 'ATS_ERROR'],
  ['asks for a key', 401, 'application/json', '{"error":"unauthorized"}', 'ATS_ERROR'],
  ['is a web page', 200, 'text/html', '<!doctype html><title>Welcome</title>', 'ATS_PROTOCOL']
]) {
  test(`a task service that ${what}`, LIMIT, async (t) => {
    const server = await listen(t, http.createServer((request, response) => {
      response.writeHead(status, { 'content-type': type })
      response.end(body)
    }))
    const { filePath } = makeFile(tempFolder(t), 'x', 1)
    const a = await node(t, server.url, 'a', { timeout: 2000 })
    await assert.rejects(a.send({ filePath, recipientId: 'b' }), failure(code))
    const b = await node(t, server.url, 'b')
    const trouble = new Promise((resolve) => {
      b.on('disconnected', resolve)
      b.on('error', resolve)
    })
    b.watch()
    await trouble
  })
}

test('a task service that hangs up', LIMIT, async (t) => {
  const server = await listen(t, net.createServer(socket => socket.destroy()))
  const { filePath } = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, server.url, 'a', { timeout: 2000 })
  await assert.rejects(a.send({ filePath, recipientId: 'b' }), failure('ATS_UNREACHABLE'))
})

test('a transfer succeeds without events: the WebSocket closes as soon as it opens', LIMIT, async (t) => {
  const { url } = await hub(t)
  const { port } = new URL(url)
  const proxy = await listen(t, net.createServer((socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      if (head.includes('/ws')) return socket.destroy()
      const upstream = net.connect(port, '127.0.0.1')
      upstream.on('error', () => socket.destroy())
      socket.on('close', () => upstream.destroy())
      upstream.write(head)
      socket.pipe(upstream).pipe(socket)
    })
  }))
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1000)
  const a = await node(t, proxy.url, 'a')
  const b = await node(t, proxy.url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  await a.send({ filePath: file.filePath, recipientId: 'b' })
  assert.deepEqual(fs.readFileSync(path.join(folder, 'in', 'x')), file.bytes)
})

test('a watch survives a task service that comes back', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const data = path.join(folder, 'hub')
  const file = makeFile(folder, 'x', 1000)
  const { startHub } = require('..')
  const first = await startHub({ listen: '127.0.0.1:0', data })
  const { url } = first
  const b = await node(t, url, 'b')
  const events = []
  for (const name of ['connected', 'disconnected']) b.on(name, () => events.push(name))
  const connected = once(b, 'connected')
  b.watch({ saveDir: path.join(folder, 'in') })
  await connected
  const disconnected = once(b, 'disconnected')
  await first.close()
  await disconnected
  const again = once(b, 'connected')
  const second = await startHub({ listen: new URL(url).host, data })
  defer(t, () => second.close())
  await again
  assert.deepEqual(events, ['connected', 'disconnected', 'connected'])
  const a = await node(t, url, 'a')
  await a.send({ filePath: file.filePath, recipientId: 'b' })
})

test('a save folder that cannot be made or written', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a', { timeout: 3000 })
  const b = await node(t, url, 'b')
  b.watch()
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  const offer = await nextOffer(b)
  await assert.rejects(offer.accept({ saveDir: path.join(file.filePath, 'in') }), failure('NOT_WRITABLE'))
  await assert.rejects(offer.accept(path.join(file.filePath, 'copy')), failure('NOT_WRITABLE'))
  await assert.rejects(offer.accept('/proc/copy'), failure('NOT_WRITABLE'))
  assert.deepEqual(contents(folder), ['x'])
  // Nothing was claimed, so that the offer can still be taken elsewhere.
  await offer.accept({ saveDir: path.join(folder, 'in') })
  await sent
})

test('a save folder that cannot be made is told by watch itself', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 10)
  const b = await node(t, url, 'b')
  assert.throws(() => b.watch({ saveDir: path.join(file.filePath, 'in') }), failure('NOT_WRITABLE'))
  assert.throws(() => b.watch({ saveDir: '/proc/in' }), failure('NOT_WRITABLE'))
  const { code, stderr } = await cli(t, ['listen', '--save-dir', '/proc/in', '--ats-url', url]).ended
  assert.equal(code, 4)
  assert.match(stderr, /^ats-p2p: .*ATS_P2P_NOT_WRITABLE\)$/m)
})

test('the receiver is killed half way', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 200_000_000)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--json'], { cwd: folder })
  await listener.line('connected')
  const a = await node(t, url, 'a', { timeout: 3000 })
  const sent = a.send({
    filePath: file.filePath,
    recipientId: 'b',
    onProgress: ({ bytesSent }) => { if (bytesSent > 0) listener.kill('SIGKILL') }
  })
  await assert.rejects(sent, (error) => {
    assert.match(error.code, /^ATS_P2P_(PEER_UNREACHABLE|STALLED)$/)
    assert.equal(error.retryable, true)
    return true
  })
  assert.deepEqual(contents(path.join(folder, 'incoming')).filter(name => !name.startsWith('.')), [])
})

test('the sender is killed half way', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 200_000_000)
  const b = await node(t, url, 'b', { timeout: 3000 })
  b.watch()
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url])
  const offer = await nextOffer(b)
  b.on('transfer_progress', ({ phase, bytes }) => { if (phase === 'transferring' && bytes > 0) sender.kill('SIGKILL') })
  fs.mkdirSync(path.join(folder, 'in'))
  await assert.rejects(offer.accept(path.join(folder, 'in', 'x')), (error) => {
    assert.match(error.code, /^ATS_P2P_(PEER_UNREACHABLE|STALLED)$/)
    return true
  })
  assert.deepEqual(contents(path.join(folder, 'in')), [])
})

test('a file that changes while it waits to be sent', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1_000_000)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch()
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  sent.catch(() => {})
  const offer = await nextOffer(b)
  fs.appendFileSync(file.filePath, 'more')
  const received = offer.accept(path.join(folder, 'copy'))
  received.catch(() => {})
  await assert.rejects(sent, failure('SOURCE_CHANGED'))
  await assert.rejects(received, failure('REMOTE_ERROR'))
  assert.deepEqual(contents(folder), ['x'])
})

/** A server of this test's own on a free port. */
async function listen (t, server) {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets = new Set()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  defer(t, () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { url: `http://127.0.0.1:${server.address().port}` }
}
