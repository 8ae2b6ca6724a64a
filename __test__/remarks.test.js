'use strict'

// What a transfer says on its task for people who read there.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { bootstrapNodes, defer, failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')
const { OriginalPeer } = require('./fixtures/original-peer')

const LIMIT = { timeout: 60_000 }

/** What people read on a task: who says what. */
async function said (url, taskId) {
  const { messages } = await fetch(`${url}/tasks/${taskId}/messages`).then(answer => answer.json())
  return messages.flatMap(({ actor_id: actor, parts }) => parts.filter(({ type }) => type === 'text').map(({ content }) => [actor, content]))
}

test('a transfer says on its task that it begins and how it ended, its names escaped', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath, hash } = makeFile(folder, 'x\u202e.pdf', 1_258_291)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  b.watch({ saveDir: path.join(folder, 'in') })
  const { taskId } = await a.send({ filePath, recipientId: 'b' })
  // Its last word is said beside its transfers, and before it leaves.
  await b.destroy()
  const [[first, begins], [second, ended], ...more] = await said(url, taskId)
  assert.deepEqual([first, begins], ['b', 'Receiving x\\u{202e}.pdf (1.2 MiB) from a'])
  assert.equal(second, 'b')
  assert.match(ended, new RegExp(`^Delivered x\\\\u\\{202e\\}\\.pdf \\(1\\.2 MiB\\) in \\d+\\.\\d s, lan connection; SHA-256 ${hash}, verified by b$`))
  assert.deepEqual(more, [])
})

test('a transfer that comes to nothing says why, and nothing of its machine', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a')
  const expired = await a.send({ filePath, recipientId: 'b', timeout: 500 }).catch(error => error)
  failure('OFFER_EXPIRED')(expired)
  await a.destroy()
  assert.deepEqual(await said(url, expired.taskId), [['a', 'Not delivered: x (10 B) to b: nobody accepted the offer in time']])
})

test('with an original, ours says it for both', LIMIT, async (t) => {
  const { url, bootstrap } = await hub(t)
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'in')
  fs.mkdirSync(saveDir)
  const file = makeFile(folder, 'x', 10)
  const theirs = new OriginalPeer({ atsUrl: url, actorId: 'original', bootstrap: bootstrapNodes(bootstrap), join: { server: true, client: true }, split: 'plain', host: '0.0.0.0' })
  defer(t, () => theirs.close())
  const a = await node(t, url, 'a')
  const receiving = theirs.receive({ saveDir })
  const { taskId } = await a.send({ filePath: file.filePath, recipientId: 'original' })
  await receiving
  await a.destroy()
  const texts = await said(url, taskId)
  assert.deepEqual(texts.map(([actor]) => actor), ['a', 'a'])
  assert.equal(texts[0][1], 'Sending x (10 B) to original')
  assert.match(texts[1][1], new RegExp(`^Delivered x \\(10 B\\) in .*; SHA-256 ${file.hash}, verified by original$`))
})
