'use strict'

// Whoever asked for something may end it, and a node ends, whatever others do.

const assert = require('node:assert/strict')
const dgram = require('node:dgram')
const { once } = require('node:events')
const path = require('node:path')
const { test } = require('node:test')
const { createNode, doctor, health, join, startDht, verify, waitForDoctor, whoami } = require('..')
const { child, defer, failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')
const { mutedService } = require('./fixtures/mute')

const LIMIT = { timeout: 60_000 }

// What `destroy` waits at most for peers and for the service, for what it stopped in the middle, and for the network;
// and what a busy machine may take besides. It was 4 s and more.
const DESTROY_MS = 1400 + 1000 + 300
const MARGIN_MS = 1000

/** Calls, and aborts once `asked` has happened: it rejects with the reason of the signal. */
async function endedBy (call, asked) {
  const controller = new AbortController()
  const reason = new Error('enough')
  const ended = assert.rejects(call(controller.signal), failure('ABORTED', ({ cause }) => assert.equal(cause, reason)))
  await asked
  controller.abort(reason)
  await ended
}

test('a signal ends each call that waits for a task service which never answers', LIMIT, async (t) => {
  const calls = {
    status: async (options, signal) => (await node(t, options.atsUrl, 'a')).status('x', { signal }),
    cancel: async (options, signal) => (await node(t, options.atsUrl, 'a')).cancel('x', { signal }),
    send: async (options, signal) => (await node(t, options.atsUrl, 'a')).send({ filePath: __filename, recipientId: 'b', signal }),
    health: (options, signal) => health({ ...options, signal }),
    whoami: (options, signal) => whoami({ ...options, apiKey: 'a-key-of-the-test', signal }),
    verify: (options, signal) => verify({ ...options, id: 'x', signal }),
    doctor: (options, signal) => doctor({ ...options, signal }),
    waitForDoctor: (options, signal) => waitForDoctor({ ...options, signal }),
    join: ({ atsUrl }, signal) => join(atsUrl, 'an-invitation', { signal })
  }
  for (const [name, call] of Object.entries(calls)) {
    const service = await mutedService(t)
    const options = { atsUrl: service.url, actorId: 'a', home: path.join(tempFolder(t), 'home') }
    await t.test(name, () => endedBy(signal => call(options, signal), service.asked()))
  }
})

test('a signal ends a node of the DHT that finds nobody', LIMIT, async (t) => {
  const silent = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  defer(t, () => silent.close())
  await once(silent, 'listening')
  const bootstrap = [`127.0.0.1:${silent.address().port}`]
  await endedBy(signal => startDht({ host: '127.0.0.1', port: 0, bootstrap, signal }), once(silent, 'message'))
})

test('a call whose signal has aborted asks nobody', LIMIT, async (t) => {
  const signal = AbortSignal.abort('before')
  const a = await node(t, 'http://127.0.0.1:9', 'a')
  for (const call of [() => a.status('x', { signal }), () => a.cancel('x', { signal }), () => a.resumeOffers({ signal }), () => health({ signal })]) {
    await assert.rejects(call, failure('ABORTED', ({ cause }) => assert.equal(cause, 'before')))
  }
})

// A process that offers a file, and is killed.
const OFFERING = `
  const { createNode } = require(process.env.FIXTURE_PACKAGE)
  const [atsUrl, home, filePath] = process.argv.slice(1)
  createNode({ atsUrl, actorId: 'a', home }).then((a) => {
    a.on('offer_sent', () => console.log('{"event":"offered"}'))
    a.send({ filePath, recipientId: 'b' })
  })`

test('a signal ends the offers that were taken up again', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [home, { filePath }] = [path.join(folder, 'home'), makeFile(folder, 'x', 10)]
  const dying = child(t, ['-e', OFFERING, url, home, filePath], { env: { ...process.env, FIXTURE_PACKAGE: path.join(__dirname, '..') } })
  await dying.line('offered')
  dying.kill('SIGKILL')
  await dying.ended
  const a = await node(t, url, 'a', { home })
  const [resumed, failed] = [once(a, 'offer_resumed'), once(a, 'transfer_failed')]
  await endedBy(signal => a.resumeOffers({ signal }), resumed)
  const [{ taskId }] = await failed
  assert.equal((await a.status(taskId)).status, 'cancelled')
  assert.deepEqual(await a.resumeOffers(), [])
})

test('a node is destroyed beside a task service that has fallen silent', LIMIT, async (t) => {
  const service = await mutedService(t, (await hub(t)).url)
  const a = await createNode({ atsUrl: service.url, actorId: 'a', home: path.join(tempFolder(t), 'home') })
  const offered = once(a, 'offer_sent')
  const sent = a.send({ filePath: __filename, recipientId: 'b' })
  const failed = assert.rejects(sent, failure('ABORTED'))
  a.watch()
  await Promise.all([offered, once(a, 'connected')])
  service.mute()
  const began = performance.now()
  await a.destroy()
  const took = performance.now() - began
  await failed
  t.diagnostic(`${Math.round(took)} ms`)
  assert.ok(took < DESTROY_MS + MARGIN_MS, `${took} ms`)
})
