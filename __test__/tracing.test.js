'use strict'

// What instrumentation hears, and what `transfers()` shows while something is under way.

const assert = require('node:assert/strict')
const { AsyncLocalStorage } = require('node:async_hooks')
const { subscribe, tracingChannel, unsubscribe } = require('node:diagnostics_channel')
const path = require('node:path')
const { test } = require('node:test')
const { AtsP2pError } = require('..')
const { Unattended } = require('../lib/tracing')
const { defer, failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** What is published in each direction while a test runs. */
function events (t) {
  const heard = { send: [], receive: [] }
  for (const direction of ['send', 'receive']) {
    const hear = (message, name) => heard[direction].push({ ...message, name })
    subscribe(`ats-p2p:${direction}`, hear)
    defer(t, () => unsubscribe(`ats-p2p:${direction}`, hear))
  }
  return heard
}

/** The traces of calls in a direction: `[what, context]`. */
function traces (t, direction) {
  const heard = []
  const subscribers = Object.fromEntries(['start', 'end', 'asyncStart', 'asyncEnd', 'error'].map(what =>
    [what, context => heard.push([what, context])]))
  const channel = tracingChannel(`ats-p2p:${direction}`)
  channel.subscribe(subscribers)
  defer(t, () => channel.unsubscribe(subscribers))
  return heard
}

const steps = heard => heard.map(([what]) => what)

test('the events of transfers are published by their direction', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 1000)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  const heard = events(t)
  b.on('file', ({ accept }) => accept({ saveDir: folder }))
  b.watch()
  const { transferId } = await a.send({ filePath, recipientId: 'b' })
  await Promise.all([a.destroy(), b.destroy()])
  const told = direction => heard[direction].filter(({ event }) => event !== 'transfer_progress').map(({ event }) => event)
  assert.deepEqual(told('send'), ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
  assert.deepEqual(told('receive'), ['file', 'peer_connected', 'transfer_start', 'transfer_complete'])
  for (const [direction, from] of [['send', a], ['receive', b]]) {
    for (const message of heard[direction]) {
      assert.deepEqual([message.transferId, message.direction, message.name], [transferId, direction, `ats-p2p:${direction}`])
      assert.equal(message.node, from)
    }
  }
})

test('calls are traced, and so is what a watch saves by itself', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 1000)
  const [a, b, c] = [await node(t, url, 'a'), await node(t, url, 'b'), await node(t, url, 'c')]
  const [sends, receives] = [traces(t, 'send'), traces(t, 'receive')]
  const storage = new AsyncLocalStorage()
  let within
  tracingChannel('ats-p2p:send').start.bindStore(storage, ({ options }) => options.recipientId)
  tracingChannel('ats-p2p:send').asyncEnd.subscribe(() => { within ??= storage.getStore() })
  defer(t, () => tracingChannel('ats-p2p:send').start.unbindStore(storage))
  let accepted
  b.on('file', ({ accept }) => (accepted = accept({ saveDir: folder })))
  b.watch()
  c.watch({ saveDir: path.join(folder, 'c') })

  const result = await a.send({ filePath, recipientId: 'b' })
  assert.deepEqual(steps(sends), ['start', 'end', 'asyncStart', 'asyncEnd'])
  const [, context] = sends.at(-1)
  assert.deepEqual([context.node, context.options.recipientId, context.options.filePath, context.result], [a, 'b', filePath, result])
  assert.equal(within, 'b')
  await accepted
  assert.deepEqual(steps(receives), ['start', 'end', 'asyncStart', 'asyncEnd'])
  const [, received] = receives.at(-1)
  assert.deepEqual([received.node, received.offer.transferId, received.result.success], [b, result.transferId, true])

  receives.length = sends.length = 0
  const { transferId } = await a.send({ filePath, recipientId: 'c' })
  await c.destroy()
  assert.deepEqual(steps(receives), ['start', 'end', 'asyncStart', 'asyncEnd'])
  const [, saved] = receives.at(-1)
  assert.deepEqual([saved.node, saved.offer.transferId, saved.result.filePath], [c, transferId, path.join(folder, 'c', 'x')])

  sends.length = 0
  const failed = await a.send({ filePath, recipientId: 'nobody', timeout: 200 }).catch(error => error)
  assert.deepEqual(steps(sends), ['start', 'end', 'error', 'asyncStart', 'asyncEnd'])
  assert.equal(sends.at(-1)[1].error, failed)

  const unattended = new Unattended(c)
  const offer = { direction: 'receive', transferId: 't' }
  unattended.see('transfer_start', offer)
  unattended.see('transfer_failed', { ...offer, code: 'ATS_P2P_STALLED', reason: 'nothing moves', retryable: true })
  const { error } = receives.at(-1)[1]
  assert.deepEqual([error.constructor, error.code, error.message, error.retryable, error.transferId], [AtsP2pError, 'ATS_P2P_STALLED', 'nothing moves', true, 't'])
})

test('transfers() shows what is under way, and what waits', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath, hash } = makeFile(folder, 'x', 1000)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  assert.deepEqual(a.transfers(), [])
  const during = []
  a.on('peer_connected', () => during.push(...a.transfers()))
  b.on('transfer_start', () => during.push(...b.transfers()))
  const controller = new AbortController()
  const waits = a.send({ filePath, recipientId: 'nobody', signal: controller.signal })
  const offered = await new Promise(resolve => a.once('offer_sent', resolve))
  const [waiting, ...more] = a.transfers()
  assert.deepEqual(more, [])
  assert.deepEqual(waiting, {
    transferId: offered.transferId,
    taskId: offered.taskId,
    direction: 'send',
    fileName: 'x',
    originalName: 'x',
    fileSize: 1000,
    fileHash: hash,
    peerId: 'nobody',
    peerIdentity: null,
    verified: false,
    firstUse: false,
    phase: 'waiting',
    bytes: 0,
    totalBytes: 1000,
    rate: null,
    eta: null
  })
  const sent = a.send({ filePath, recipientId: 'b' })
  for await (const offer of b.offers()) {
    // What is offered and not accepted is no transfer here.
    assert.deepEqual(b.transfers(), [])
    await offer.accept({ saveDir: folder })
    break
  }
  await sent
  const [sending, receiving] = ['send', 'receive'].map(wanted => during.find(({ direction, peerId }) => direction === wanted && peerId !== 'nobody'))
  assert.deepEqual([sending.peerId, sending.phase, sending.peerIdentity], ['b', 'connecting', b.publicKey])
  assert.deepEqual([receiving.peerId, receiving.phase, receiving.peerIdentity], ['a', 'transferring', a.publicKey])
  assert.deepEqual(a.transfers().map(({ peerId }) => peerId), ['nobody'])
  assert.deepEqual(b.transfers(), [])
  controller.abort()
  await assert.rejects(waits, failure('ABORTED'))
  assert.deepEqual(a.transfers(), [])
  await b.destroy()
  assert.throws(() => b.transfers(), failure('DESTROYED'))
})
