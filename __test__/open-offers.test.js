'use strict'

// A sending process that is killed, and what the next one does about its offer.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const test = require('node:test')
const { cli, contents, defer, hub, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')
const { createNode } = require('..')

const LIMIT = { timeout: 120_000 }

test('resume delivers what a killed process was sending', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const env = { ATS_P2P_HOME: path.join(folder, 'home') }
  const file = makeFile(folder, 'x', 300_000_000)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--json'], { cwd: folder })
  await listener.line('connected')
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json'], { env })
  const { transferId } = await sender.line('offer_sent')
  await listener.moving()
  sender.kill('SIGKILL')
  await sender.ended
  const { code, stdout, stderr } = await cli(t, ['resume', '--actor-id', 'a', '--ats-url', url, '--json'], { env }).ended
  assert.equal(code, 0, stderr)
  const lines = stdout.trim().split('\n').map(line => JSON.parse(line))
  const progress = lines.filter(({ event }) => event === 'transfer_progress')
  const others = lines.filter(line => !progress.includes(line))
  assert.deepEqual(others.map(({ event }) => event), ['offer_resumed', 'peer_connected', 'transfer_start', 'transfer_complete'])
  assert.ok(lines.every(line => line.transferId === transferId))
  const [, , start, complete] = others
  assert.ok(start.resumedFrom > 0 && start.resumedFrom <= file.bytes.length, `from ${start.resumedFrom}`)
  assert.equal(complete.resumedFrom, start.resumedFrom)
  const moved = progress.filter(({ phase }) => phase === 'transferring' || phase === 'verifying')
  assert.ok(moved.length > 0 && moved.every(({ bytesSent }) => bytesSent >= start.resumedFrom))
  assert.ok(progress.every(({ totalBytes }) => totalBytes === file.bytes.length))
  assert.equal(sha256(fs.readFileSync(path.join(folder, 'incoming', 'x'))), file.hash)
  assert.deepEqual(contents(path.join(folder, 'incoming')), ['x'])
  const again = await cli(t, ['resume', '--actor-id', 'a', '--ats-url', url], { env }).ended
  assert.deepEqual([again.code, again.stdout], [0, 'Nothing was left open'])
})

test('a node that is told to resume takes up the offer of a killed process', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  const file = makeFile(folder, 'x', 10)
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--metadata', '{"a":1}', '--json'], { env: { ATS_P2P_HOME: home } })
  await sender.line('offer_sent')
  sender.kill('SIGKILL')
  await sender.ended
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const a = await createNode({ atsUrl: url, actorId: 'a', home, resume: true })
  defer(t, () => a.destroy())
  const [resumed, { metadata }] = await Promise.all(['offer_resumed', 'transfer_complete'].map(async event => (await once(a, event))[0]))
  assert.deepEqual([resumed.metadata, metadata], [{ a: 1 }, { a: 1 }])
  assert.equal(sha256(fs.readFileSync(path.join(folder, 'in', 'x'))), file.hash)
})

test('cancel withdraws what a killed process had offered, and nothing of others', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const env = { ATS_P2P_HOME: path.join(folder, 'home') }
  const file = makeFile(folder, 'x', 10)
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json'], { env })
  const { transferId } = await sender.line('offer_sent')
  sender.kill('SIGKILL')
  await sender.ended
  const cancel = actor => cli(t, ['cancel', transferId, '--actor-id', actor, '--ats-url', url], { env }).ended
  const stranger = await cancel('c')
  assert.equal(stranger.code, 10)
  assert.match(stranger.stderr, /ATS_P2P_NOT_ALLOWED/)
  const { code, stdout } = await cancel('a')
  assert.deepEqual([code, stdout], [0, `Transfer ${transferId} is cancelled`])
  const resumed = await cli(t, ['resume', '--actor-id', 'a', '--ats-url', url], { env }).ended
  assert.deepEqual([resumed.code, resumed.stdout], [0, 'Nothing was left open'])
})
