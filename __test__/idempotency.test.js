'use strict'

// Sends under an idempotency key: however often one is asked for, and whenever it dies, the file arrives once.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { identity } = require('..')
const { cli, contents, failure, hub, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }

async function world (t) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  const saveDir = path.join(folder, 'in')
  return {
    url,
    folder,
    home,
    saveDir,
    tasks: () => fetch(`${url}/tasks?type=file_offer&limit=100`).then(answer => answer.json()).then(({ tasks }) => tasks),
    sender: (options = {}) => node(t, url, 'a', { home, ...options }),
    async receiver () {
      const b = await node(t, url, 'b')
      b.watch({ saveDir })
      return b
    },
    run: (file, key, more = []) => cli(t, ['send', file, '--to', 'b', '--idempotency-key', key, '--json', ...more], { env: { ATS_URL: url, ATS_ACTOR_ID: 'a', ATS_P2P_HOME: home }, cwd: folder })
  }
}

test('a send that is repeated after it was delivered has the same result, and sends nothing', LIMIT, async (t) => {
  const { url, folder, saveDir, sender, receiver, tasks } = await world(t)
  const { filePath, hash } = makeFile(folder, 'x', 100_000)
  await receiver()
  const send = async (options, more) => (await sender(options)).send({ filePath, recipientId: 'b', idempotencyKey: 'k', ...more })
  const { connection, ...first } = await send()
  assert.deepEqual([first.hash, first.replayed, connection.path], [hash, undefined, 'lan'])
  const again = await sender()
  const events = []
  for (const name of ['offer_sent', 'offer_resumed', 'transfer_complete']) again.on(name, ({ transferId }) => events.push([name, transferId]))
  const { connection: none, ...second } = await again.send({ filePath, recipientId: 'b', idempotencyKey: 'k' })
  assert.deepEqual([second, none], [{ ...first, firstUse: false, replayed: true }, null])
  assert.deepEqual(events, [['offer_resumed', first.transferId], ['transfer_complete', first.transferId]])
  assert.deepEqual(contents(saveDir), ['x'])
  assert.equal((await tasks()).length, 1)

  // Another actor, and another key, are another send.
  const c = await node(t, url, 'c')
  assert.notEqual((await c.send({ filePath, recipientId: 'b', idempotencyKey: 'k' })).transferId, first.transferId)
  assert.notEqual((await send({}, { idempotencyKey: 'l' })).transferId, first.transferId)
  assert.equal(contents(saveDir).length, 3)
})

test('a key stands for one file, one recipient, one channel and what is said of the file', LIMIT, async (t) => {
  const { folder, sender, receiver, run, tasks } = await world(t)
  const { filePath } = makeFile(folder, 'x', 1000)
  makeFile(folder, 'same-size', 1000)
  makeFile(folder, 'other', 10)
  await receiver()
  const a = await sender()
  const metadata = { a: 1, b: 1 }
  await a.send({ filePath, recipientId: 'b', idempotencyKey: 'k', metadata })
  for (const other of [{ filePath: path.join(folder, 'same-size') }, { filePath: path.join(folder, 'other') }, { recipientId: 'c' }, { channel: 'elsewhere' }, { metadata: { a: 2, b: 1 } }, { metadata: null }]) {
    await assert.rejects(a.send({ filePath, recipientId: 'b', idempotencyKey: 'k', metadata, ...other }), failure('KEY_REUSED'))
  }
  const { code, stdout, stderr } = await run('other', 'k', ['--metadata', JSON.stringify(metadata)]).ended
  assert.equal(code, 21, stderr)
  assert.equal(JSON.parse(stdout).code, 'ATS_P2P_KEY_REUSED')
  assert.equal((await tasks()).length, 1)
  await assert.rejects(a.send({ filePath, recipientId: 'b', idempotencyKey: ' ' }), failure('INVALID_ARGUMENT'))
  // It is no other file for another name.
  fs.copyFileSync(filePath, path.join(folder, 'copy'))
  assert.equal((await a.send({ filePath: path.join(folder, 'copy'), recipientId: 'b', idempotencyKey: 'k', metadata: { b: 1, a: 1 } })).replayed, true)
})

test('of processes that send under one key at once, one sends, and all end as it does', LIMIT, async (t) => {
  const { folder, saveDir, run, receiver, tasks } = await world(t)
  const { hash } = makeFile(folder, 'x', 1_000_000)
  const runs = ['k', 'k', 'k'].map(key => run('x', key))
  const offers = await Promise.all(runs.map(running => running.lineWhere(({ event }) => /^offer_/.test(event), 'an offer')))
  assert.deepEqual(offers.map(({ event }) => event).sort(), ['offer_resumed', 'offer_resumed', 'offer_sent'])
  assert.equal(new Set(offers.map(({ transferId }) => transferId)).size, 1)
  await receiver()
  for (const { code, stdout, stderr } of await Promise.all(runs.map(({ ended }) => ended))) {
    assert.equal(code, 0, stderr)
    assert.equal(JSON.parse(stdout.split('\n').at(-1)).hash, hash)
  }
  assert.deepEqual(contents(saveDir), ['x'])
  assert.equal((await tasks()).length, 1)
})

test('who waits for a send that fails fails as it does, and who asks again sends anew', LIMIT, async (t) => {
  const { url, folder, saveDir, sender, receiver, tasks } = await world(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const [first, second] = [await sender(), await sender()]
  const request = { filePath, recipientId: 'b', idempotencyKey: 'k' }
  const offered = once(first, 'offer_sent')
  const sending = first.send(request)
  await offered
  const waits = once(second, 'offer_resumed')
  const waiting = second.send(request)
  await waits
  const b = await node(t, url, 'b')
  b.once('file', ({ reject }) => reject('not today'))
  b.watch()
  for (const ended of await Promise.allSettled([sending, waiting])) failure('REJECTED')(ended.reason)
  await b.destroy()
  await receiver()
  const sent = await first.send(request)
  assert.equal(sent.replayed, undefined)
  assert.equal((await second.send(request)).replayed, true)
  assert.deepEqual(contents(saveDir), ['x'])
  assert.deepEqual((await tasks()).map(({ status }) => status).sort(), ['completed', 'rejected'])
})

test('who waits for a send that is called off goes on with it, and a key that failed before is found where the home has forgotten it', LIMIT, async (t) => {
  const { folder, home, saveDir, sender, receiver, tasks } = await world(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const [first, second] = [await sender(), await sender()]
  const request = { filePath, recipientId: 'b', idempotencyKey: 'k' }
  const over = new AbortController()
  const offered = once(first, 'offer_sent')
  const sending = first.send({ ...request, signal: over.signal })
  await offered
  const waits = once(second, 'offer_resumed')
  const waiting = second.send(request)
  await waits
  over.abort()
  await assert.rejects(sending, failure('ABORTED'))
  await receiver()
  const { transferId, replayed } = await waiting
  assert.equal(replayed, undefined)
  fs.rmSync(path.join(home, 'transfers'), { recursive: true })
  const again = await (await sender()).send(request)
  assert.deepEqual([again.transferId, again.replayed], [transferId, true])
  assert.deepEqual(contents(saveDir), ['x'])
  assert.deepEqual((await tasks()).map(({ status }) => status).sort(), ['cancelled', 'completed'])
})

test('a key whose file was made anew before it was offered stands for that one', LIMIT, async (t) => {
  const { folder, home, saveDir, sender, receiver } = await world(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const a = await sender()
  const request = { filePath, recipientId: 'b', idempotencyKey: 'k' }
  // It ends before anything is offered.
  const over = new AbortController()
  const begun = once(a, 'transfer_progress')
  const sending = a.send({ ...request, signal: over.signal })
  await begun
  over.abort()
  await assert.rejects(sending, failure('ABORTED'))
  const { hash } = makeFile(folder, 'x', 20)
  await receiver()
  assert.equal((await a.send(request)).hash, hash)
  assert.equal((await (await sender()).send(request)).replayed, true)
  fs.rmSync(path.join(home, 'transfers'), { recursive: true })
  assert.equal((await (await sender()).send(request)).replayed, true)
  assert.deepEqual(contents(saveDir), ['x'])
})

test('a key is known by the task service where the home has forgotten it, and with another seed or none of its own', LIMIT, async (t) => {
  const { url, folder, home, saveDir, sender, receiver, tasks } = await world(t)
  const { filePath } = makeFile(folder, 'x', 10)
  await receiver()
  const request = { filePath, recipientId: 'b', idempotencyKey: 'k' }
  const { transferId } = await (await sender()).send(request)
  assert.match(transferId, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  fs.rmSync(path.join(home, 'transfers'), { recursive: true })
  const forgotten = await (await sender()).send(request)
  assert.deepEqual([forgotten.transferId, forgotten.replayed], [transferId, true])
  await identity.rotate({ home, atsUrl: url, actorId: 'a' })
  const rotated = await (await sender()).send(request)
  assert.deepEqual([rotated.transferId, rotated.replayed], [transferId, true])
  const unnamed = await (await node(t, url, 'd', { identity: false })).send(request)
  assert.equal(unnamed.verified, true)
  assert.equal(contents(saveDir).length, 2)
  assert.equal((await tasks()).length, 2)
})

test('a send that is killed at any moment, and asked for again, delivers once', { timeout: 300_000 }, async (t) => {
  const { folder, saveDir, run, receiver, tasks } = await world(t)
  const file = makeFile(folder, 'x', 20_000_000)
  await receiver()
  // After the start of the process, and after each of its steps.
  const moments = [
    ...[20, 160, 220, 300].map(ms => () => new Promise(resolve => setTimeout(resolve, ms))),
    running => running.line('offer_sent'),
    running => running.line('peer_connected'),
    running => running.lineWhere(({ phase, event, bytes }) => event === 'transfer_progress' && phase !== 'hashing' && bytes > 0, 'bytes'),
    running => running.line('transfer_complete')
  ]
  for (const [i, moment] of moments.entries()) {
    const killed = run('x', `k${i}`)
    await moment(killed).catch(() => {})
    killed.kill('SIGKILL')
    await killed.ended
    const { code, stdout, stderr } = await run('x', `k${i}`).ended
    assert.equal(code, 0, stderr)
    assert.equal(JSON.parse(stdout.split('\n').at(-1)).hash, file.hash)
    assert.equal(contents(saveDir).length, i + 1, `moment ${i}: ${contents(saveDir)}`)
  }
  for (const name of contents(saveDir)) assert.equal(sha256(fs.readFileSync(path.join(saveDir, name))), file.hash)
  const made = await tasks()
  assert.equal(made.filter(({ status }) => status === 'completed').length, moments.length)
  assert.equal(made.length, moments.length)
})

test('a detached send that is asked for again is the one that runs', LIMIT, async (t) => {
  const { folder, home, saveDir, run, receiver, tasks } = await world(t)
  makeFile(folder, 'x', 10)
  const detach = () => run('x', 'k', ['--detach']).ended.then(({ stdout, stderr }) => stdout ? JSON.parse(stdout.split('\n')[0]) : assert.fail(stderr))
  const [first, second] = [await detach(), await detach()]
  t.after(() => { try { process.kill(first.detached.pid, 'SIGKILL') } catch {} })
  assert.deepEqual([second.event, second.transferId, second.detached], ['offer_resumed', first.transferId, first.detached])
  await receiver()
  const { code, stderr } = await run('x', 'k').ended
  assert.equal(code, 0, stderr)
  const third = await detach()
  assert.deepEqual([third.transferId, contents(saveDir), (await tasks()).length], [first.transferId, ['x'], 1])
  const waited = await cli(t, ['wait', first.transferId], { env: { ATS_P2P_HOME: home } }).ended
  assert.equal(waited.code, 0, waited.stderr)
})
