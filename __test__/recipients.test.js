'use strict'

// One file to several: by one call, each by a transfer of its own. That it is hashed once is tested in
// src/send/shared_file.rs.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A sender, and recipients of these ids who save what they are offered, but for `c`, who declines it. */
async function world (t, ids) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  for (const id of ids) {
    const made = await node(t, url, id, { shouldAccept: () => id === 'c' ? 'not today' : true })
    made.watch({ saveDir: path.join(folder, id) })
  }
  return { url, folder, a: await node(t, url, 'a') }
}

test('a file goes to several at once, and what becomes of each is told in their order', LIMIT, async (t) => {
  const { folder, a } = await world(t, ['b', 'c', 'd'])
  const file = makeFile(folder, 'x', 1_000_000)
  const [told, progress, offers] = [[], [], []]
  a.on('offer_sent', ({ recipientId, transferId }) => offers.push([recipientId, transferId]))
  const recipientIds = ['d', 'c', 'b', 'd']
  const results = await a.send({
    filePath: file.filePath,
    recipientIds,
    metadata: [1],
    onProgress: report => progress.push(report),
    onResult: result => told.push(result)
  })
  assert.deepEqual(results.map(({ recipientId, success }) => [recipientId, success]), [['d', true], ['c', false], ['b', true], ['d', true]])
  assert.equal(results[0], results[3])
  const [ofD, ofC, ofB] = results
  failure('REJECTED')(ofC.error)
  for (const { recipientId, hash, size, transferId } of [ofB, ofD]) {
    assert.deepEqual([hash, size], [file.hash, file.bytes.length])
    assert.deepEqual(fs.readFileSync(path.join(folder, recipientId, 'x')), file.bytes)
    assert.ok(offers.some(([id, of]) => id === recipientId && of === transferId))
  }
  assert.deepEqual([offers.length, new Set(told), told.length], [3, new Set([ofB, ofC, ofD]), 3])

  const total = 3 * file.bytes.length
  let before = 0
  for (const { recipientId, bytesSent, totalBytes, all } of progress) {
    assert.ok(recipientIds.includes(recipientId) && bytesSent <= totalBytes && totalBytes === file.bytes.length)
    assert.ok(all.bytesSent >= before && all.bytesSent <= total && all.totalBytes === total)
    before = all.bytesSent
  }
  assert.equal(before, 2 * file.bytes.length)
})

test('what is thrown where results are told is the error of the node, and takes no result away', LIMIT, async (t) => {
  const { a } = await world(t, ['b', 'd'])
  const thrown = []
  a.on('error', error => thrown.push(error.message))
  const results = await a.send({ data: 'x', fileName: 'x', recipientIds: ['b', 'd'], onResult: ({ recipientId }) => { throw new Error(recipientId) } })
  assert.deepEqual(results.map(({ success }) => success), [true, true])
  assert.deepEqual(thrown.sort(), ['b', 'd'])
})

test('bytes and a stream go to several too, and a stream is read once', LIMIT, async (t) => {
  const { folder, a } = await world(t, ['b', 'd'])
  let chunks = 0
  const stream = async function * () {
    for (const chunk of ['a', 'b', 'c']) { chunks++; yield chunk }
  }
  for (const content of [{ data: 'abc', fileName: 'data' }, { stream: stream(), fileName: 'stream' }]) {
    const results = await a.send({ ...content, recipientIds: ['b', 'd'] })
    assert.deepEqual(results.map(({ success }) => success), [true, true])
    for (const id of ['b', 'd']) assert.equal(fs.readFileSync(path.join(folder, id, content.fileName), 'utf8'), 'abc')
  }
  assert.equal(chunks, 3)
})

test('what concerns all is thrown, and a signal ends each', LIMIT, async (t) => {
  const { folder, a } = await world(t, [])
  const { filePath } = makeFile(folder, 'x', 10)
  for (const [options, message] of [
    [{ recipientIds: [] }, /recipientIds must name at least one/],
    [{ recipientIds: 'b' }, /recipientIds must be an array of strings/],
    [{ recipientIds: ['b', ''] }, /each of send: recipientIds must not be empty/],
    [{ recipientIds: ['b'], recipientId: 'b' }, /recipientId does not go with recipientIds/],
    [{ recipientIds: ['b'], idempotencyKey: 'k' }, /idempotencyKey does not go with recipientIds/]
  ]) await assert.rejects(a.send({ filePath, ...options }), failure('INVALID_ARGUMENT', error => assert.match(error.message, message)))
  const recipientIds = ['b', 'c']
  await assert.rejects(a.send({ filePath: path.join(folder, 'none'), recipientIds }), failure('FILE_NOT_FOUND'))
  await assert.rejects(a.send({ filePath, recipientIds, signal: AbortSignal.abort() }), failure('ABORTED'))

  const controller = new AbortController()
  const sending = a.send({ filePath, recipientIds, signal: controller.signal })
  const offers = [(await once(a, 'offer_sent'))[0], (await once(a, 'offer_sent'))[0]]
  controller.abort()
  const results = await sending
  assert.deepEqual(results.map(({ recipientId }) => recipientId), recipientIds)
  for (const { success, error } of results) failure('ABORTED', () => assert.equal(success, false))(error)
  for (const { taskId } of offers) assert.equal((await a.status(taskId)).status, 'cancelled')
  await a.destroy()
  await assert.rejects(a.send({ filePath, recipientIds }), failure('DESTROYED'))
})
