'use strict'

// Readers of what the command line prints that go away, never come, or have no room: the command goes on, and its exit
// code says what became of its task.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { Writable } = require('node:stream')
const { test } = require('node:test')
const { Lines } = require('../bin/lines')
const { cli, contents, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

// Runs what follows with its stdout or stderr changed.
const sh = redirection => ['sh', '-c', `exec "$@" ${redirection}`, 'sh']

test('a sender whose output is read no further delivers, and says so by its exit code', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 50_000_000)
  const b = await node(t, url, 'b')
  for (const stream of ['stdout', 'stderr']) {
    const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--no-identity', '--ats-url', url, '--json'], { env: { ATS_P2P_LOG: 'debug' } })
    const { taskId } = await sender.line('offer_sent')
    sender.hangUp(stream)
    b.watch({ saveDir: path.join(folder, stream) })
    assert.equal((await sender.ended).code, 0)
    assert.equal((await b.status(taskId)).status, 'completed')
  }
})

test('a sender whose output is read no further fails as it would have', LIMIT, async (t) => {
  const { url } = await hub(t)
  const { filePath } = makeFile(tempFolder(t), 'x', 10)
  const sender = cli(t, ['send', filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json'])
  await sender.line('offer_sent')
  sender.hangUp()
  sender.hangUp('stderr')
  const b = await node(t, url, 'b')
  b.on('file', ({ reject }) => reject('no'))
  b.watch()
  assert.equal((await sender.ended).code, 8)
})

test('a listener whose output is read no further takes file after file, and leaves nothing when it ends', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--json'], { cwd: folder })
  await listener.line('connected')
  listener.hangUp()
  const a = await node(t, url, 'a')
  for (const name of ['x', 'y']) {
    const { filePath, bytes } = makeFile(folder, name, 3_000_000)
    await a.send({ filePath, recipientId: 'b' })
    assert.deepEqual(fs.readFileSync(path.join(folder, 'incoming', name)), bytes)
  }
  listener.kill('SIGINT')
  assert.equal((await listener.ended).code, 130)
  assert.deepEqual(contents(path.join(folder, 'incoming')), ['x', 'y'])
})

test('stdout closed before the start, or a disk that is full, stops no transfer', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1_000_000)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const send = redirection => cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--no-identity', '--ats-url', url], { prefix: sh(redirection) }).ended
  for (const redirection of ['>&-', '2>&-', '>&- 2>&-']) {
    const { code, stderr } = await send(redirection)
    assert.deepEqual({ redirection, code, stderr }, { redirection, code: 0, stderr: '' })
  }
  if (!fs.existsSync('/dev/full')) return t.diagnostic('no /dev/full here')
  const { code, stderr } = await send('>/dev/full')
  assert.equal(code, 0, stderr)
  assert.match(stderr, /^ats-p2p: what is printed is lost: .*ENOSPC.*\n$/)
  assert.equal((await send('>/dev/full 2>&1')).code, 0)
})

test('a command that was to tell something has failed where that is lost', LIMIT, async (t) => {
  if (!fs.existsSync('/dev/full')) return t.skip('no /dev/full here')
  const { url } = await hub(t)
  for (const args of [['--help'], ['--version'], ['send', '--help'], ['id'], ['id', 'export'], ['peers'], ['doctor', '--ats-url', url, '--json']]) {
    const { code, stderr } = await cli(t, args, { prefix: sh('>/dev/full') }).ended
    assert.equal(code, 4, `${args}: ${stderr}`)
    assert.match(stderr, /^ats-p2p: what is printed is lost: .*ENOSPC.*\n$/)
  }
})

test('a reader that wants no more is no error to any command', LIMIT, async (t) => {
  const { url } = await hub(t)
  for (const args of [['--help'], ['--version'], ['send', '--help'], ['id'], ['peers'], ['doctor', '--ats-url', url]]) {
    const command = cli(t, args)
    command.hangUp()
    const { code, stderr } = await command.ended
    assert.deepEqual({ args, code, stderr }, { args, code: 0, stderr: '' })
  }
  for (const [args, event] of [[['hub', '--listen', '127.0.0.1:0'], 'listening'], [['dht', '--host', '127.0.0.1', '--port', '0'], 'listening'], [['doctor', '--wait', '--ats-url', url], 'waiting']]) {
    const command = cli(t, [...args, '--json'])
    await command.line(event)
    command.hangUp()
    command.kill('SIGTERM')
    const { code, stderr } = await command.ended
    assert.deepEqual({ args, code, stderr }, { args, code: 143, stderr: '' })
  }
})

test('a pipe that nobody reads stops no transfer, and what was said is all there once it is read', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 20_000_000)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const pipe = path.join(folder, 'pipe')
  execFileSync('mkfifo', [pipe])
  // Open for both, so that it can be filled before anybody reads.
  const ends = fs.openSync(pipe, fs.constants.O_RDWR | fs.constants.O_NONBLOCK)
  t.after(() => fs.closeSync(ends))
  let filled = 0
  try {
    for (;;) filled += fs.writeSync(ends, Buffer.alloc(4096, '\n'))
  } catch (error) {
    assert.equal(error.code, 'EAGAIN')
  }
  const arrived = once(b, 'transfer_complete')
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json'], { prefix: sh(`>${pipe}`) })
  await arrived
  const read = fs.createReadStream(pipe)
  let text = ''
  read.setEncoding('utf8').on('data', (chunk) => { text += chunk })
  const { code, stderr } = await sender.ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  while (!text.includes('transfer_complete')) await once(read, 'data')
  const events = text.slice(filled).split('\n').filter(Boolean).map(line => JSON.parse(line).event)
  assert.deepEqual(events.filter(event => event !== 'transfer_progress'), ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
  // Reading the pipe ends with its last writer.
  read.destroy()
})

test('what waits for a slow reader is bounded: lines that pass go first, and what is missing is told', async () => {
  const taken = []
  let release
  const slow = new Writable({ write: (chunk, encoding, done) => { taken.push(String(chunk)); release = done } })
  const missed = []
  const lines = new Lines(slow, { onMissed: count => missed.push(count) })
  const kilobyte = 'x'.repeat(1024)
  for (let i = 0; i < 1000; i++) lines.write(kilobyte, true)
  assert.ok(slow.writableLength < 70 * 1024, `${slow.writableLength} bytes wait`)
  lines.write('first\n')
  for (let i = 0; i < 20_000; i++) lines.write(kilobyte)
  assert.ok(slow.writableLength < 9 * 1024 * 1024, `${slow.writableLength} bytes wait`)
  let flushed = false
  lines.flushed().then(() => { flushed = true })
  while (!flushed) {
    release()
    await new Promise(resolve => setImmediate(resolve))
  }
  assert.ok(taken.includes('first\n'))
  assert.equal(missed.length, 1)
  assert.equal(taken.filter(text => text === kilobyte).length + missed[0], 20_000 + 65)
})
