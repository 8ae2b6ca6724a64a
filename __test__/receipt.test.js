'use strict'

// Receipts: what both ends of a transfer sign, where it is kept, and what it proves.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { test } = require('node:test')
const { createNode, identity, peers, verify } = require('..')
const { cli, contents, defer, failure, hub, makeFile, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }

/** Two agents on a hub, and a file that went from one to the other: all that the tests look at. */
async function delivered (t, { a: ofA = {}, b: ofB = {} } = {}) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const agent = (actorId, more) => ({ atsUrl: url, actorId, home: path.join(folder, actorId), timeout: 30_000, ...more })
  const [a, b] = [agent('a', ofA), agent('b', ofB)]
  const file = makeFile(folder, 'data.csv', 100_000)
  const [sender, receiver] = [await createNode(a), await createNode(b)]
  for (const node of [sender, receiver]) defer(t, () => node.destroy())
  receiver.watch({ saveDir: path.join(folder, 'in') })
  const arrived = new Promise(resolve => receiver.once('transfer_complete', resolve))
  const sent = await sender.send({ filePath: file.filePath, recipientId: 'b' })
  const { filePath } = await arrived
  await completed(sender, sent.taskId)
  // Receipts are kept in the background, and a node's end waits for that.
  await Promise.all([sender.destroy(), receiver.destroy()])
  return { url, folder, a, b, file, sent, filePath }
}

/** The receiver acknowledges a file before it completes the task. */
async function completed (node, id) {
  while ((await node.status(id)).status !== 'completed') await new Promise(resolve => setImmediate(resolve))
}

/** What answers as the task service at `url` does, changed by `answer`; it knows of nothing where that is null. */
async function service (t, url, answer) {
  const server = http.createServer(async (request, response) => {
    const { accept, ...headers } = request.headers
    const got = await fetch(url + request.url, { headers: { ...headers, host: new URL(url).host } })
    const changed = answer(await got.text())
    const forgotten = request.url.includes('?') ? [200, '{"tasks":[]}'] : [404, '{"error":"not found"}']
    const [status, body] = changed === null ? forgotten : [got.status, changed]
    response.writeHead(status, { 'content-type': 'application/json' }).end(body)
  })
  await once(server.listen(0, '127.0.0.1'), 'listening')
  defer(t, () => server.close())
  return `http://127.0.0.1:${server.address().port}`
}

/** The receipts that an agent keeps. */
const kept = agent => contents(path.join(agent.home, 'receipts')).map(name => path.join(agent.home, 'receipts', name))

test('both ends, and nobody who does not know them, see by whom a transfer was signed', LIMIT, async (t) => {
  const { folder, a, b, file, sent, filePath } = await delivered(t)
  const { identity: keyOfA } = await identity.show(a)
  const { identity: keyOfB } = await identity.show(b)
  for (const [agent, id] of [[a, sent.transferId], [b, sent.taskId]]) {
    const verified = await verify({ ...agent, id, file: filePath })
    assert.deepEqual(verified.sender, { actorId: 'a', identity: keyOfA, own: agent === a })
    assert.deepEqual(verified.receiver, { actorId: 'b', identity: keyOfB, own: agent === b })
    const { transferId, taskId, fileName, fileSize, fileHash, fileChecked } = verified
    assert.deepEqual({ transferId, taskId, fileName, fileSize, fileHash, fileChecked }, { ...{ transferId: sent.transferId, taskId: sent.taskId }, fileName: 'data.csv', fileSize: 100_000, fileHash: file.hash, fileChecked: true })
    assert.ok(new Date(verified.offeredAt) <= new Date(verified.completedAt))
  }
  const c = { ...a, actorId: 'c', home: path.join(folder, 'c') }
  await assert.rejects(verify({ ...c, id: sent.transferId }), failure('IDENTITY', ({ message }) => assert.match(message, /peers accept a /)))
  await peers.accept('a', keyOfA, c)
  await peers.accept('b', keyOfB, c)
  assert.equal((await verify({ ...c, id: sent.transferId })).receiver.own, false)
})

test('each end keeps the receipt, and needs no task service for it', LIMIT, async (t) => {
  const { a, b, file, sent, filePath } = await delivered(t)
  const gone = { atsUrl: 'http://127.0.0.1:1' }
  for (const agent of [a, b]) {
    const [receipt, ...more] = kept(agent)
    assert.deepEqual(more, [])
    const options = { ...agent, receipt, file: file.filePath }
    assert.equal((await verify(options)).transferId, sent.transferId)
    assert.equal((await verify({ ...options, ...gone })).transferId, sent.transferId)
    assert.equal((await verify({ ...agent, ...gone, id: sent.transferId, file: filePath })).fileChecked, true)
  }
  assert.deepEqual(fs.readFileSync(kept(a)[0]), fs.readFileSync(kept(b)[0]), 'it is the same one')
})

test('a receipt that was changed, a file that is another one, and no receipt are told apart', LIMIT, async (t) => {
  const { a, folder, file, sent } = await delivered(t)
  const other = makeFile(folder, 'other', 100_000)
  await assert.rejects(verify({ ...a, id: sent.transferId, file: other.filePath }), failure('INTEGRITY'))
  await assert.rejects(verify({ ...a, id: sent.transferId, file: path.join(folder, 'none') }), failure('FILE_NOT_FOUND'))
  await assert.rejects(verify({ ...a, id: 'another' }), failure('NO_RECEIPT'))
  const [receipt] = kept(a)
  const changed = path.join(folder, 'changed.json')
  for (const [change, code] of [
    [value => { value.completion.completed_at++ }, 'IDENTITY'],
    [value => { value.offer.filename = 'other.csv' }, 'IDENTITY'],
    [value => { value.offer.recipient_id = 'c' }, 'IDENTITY'],
    [value => { value.taskId = 12345 }, 'IDENTITY'],
    [value => { delete value.completion.p2p.signature; delete value.completion.p2p.identity }, 'NO_RECEIPT'],
    [value => { delete value.completion }, 'NO_RECEIPT']
  ]) {
    const value = JSON.parse(fs.readFileSync(receipt, 'utf8'))
    change(value)
    fs.writeFileSync(changed, JSON.stringify(value))
    await assert.rejects(verify({ ...a, receipt: changed }), failure(code))
  }
  await assert.rejects(verify({ ...a, receipt: file.filePath }), failure('NO_RECEIPT'))
  await assert.rejects(verify(a), failure('INVALID_ARGUMENT'))
  await assert.rejects(verify({ ...a, id: 'x', receipt }), failure('INVALID_ARGUMENT'))
})

test('a task service that changes what was signed, or forgets it, changes no receipt', LIMIT, async (t) => {
  const { url, a, b, sent } = await delivered(t)
  const c = { ...a, home: `${a.home}-of-another` }
  for (const actor of [a, b]) await peers.accept(actor.actorId, (await identity.show(actor)).identity, c)
  const through = async (answer, agent) => verify({ ...agent, id: sent.transferId, atsUrl: await service(t, url, answer) })
  await assert.rejects(through(text => text.replace(/"duration_ms":\d+/g, '"duration_ms":1000000'), a), failure('IDENTITY'))
  await assert.rejects(through(text => text.replaceAll('data.csv', 'data.txt'), a), failure('IDENTITY'))
  await assert.rejects(through(text => text.replaceAll('"verified":true', '"verified":false'), a), failure('NO_RECEIPT'))
  assert.equal((await through(() => null, a)).transferId, sent.transferId)
  await assert.rejects(through(() => null, c), failure('NO_RECEIPT', ({ message }) => assert.match(message, /keeps none/)))
})

test('where an end has no identity there is no receipt', LIMIT, async (t) => {
  const { a, b, sent } = await delivered(t, { b: { identity: false } })
  await assert.rejects(verify({ ...a, id: sent.transferId }), failure('NO_RECEIPT', ({ message }) => assert.match(message, /not signed/)))
  assert.deepEqual([...kept(a), ...kept(b)], [])
})

test('who wants to keep none keeps none', LIMIT, async (t) => {
  const { a, b, sent } = await delivered(t, { a: { keepReceipts: 0 } })
  assert.deepEqual([kept(a).length, kept(b).length], [0, 1])
  assert.equal((await verify({ ...a, id: sent.transferId })).sender.own, true)
})

test('ats-p2p verify says who gave what to whom, and its exit code whether that holds', LIMIT, async (t) => {
  const { url, folder, a, file, sent } = await delivered(t)
  const env = { ATS_URL: url, ATS_ACTOR_ID: 'a', ATS_P2P_HOME: a.home }
  const run = async (...args) => cli(t, ['verify', ...args], { env }).ended
  const whole = await run(sent.transferId, file.filePath)
  assert.equal(whole.code, 0, whole.stderr)
  assert.match(whole.stdout, /^From: +a, [0-9a-f]{64} \(this user's own\)$/m)
  assert.match(whole.stdout, /^To: +b, [0-9a-f]{64}$/m)
  assert.match(whole.stdout, /is that file\.$/)
  const json = await run('--receipt', kept(a)[0], '--json')
  assert.equal(JSON.parse(json.stdout).fileHash, file.hash)
  assert.equal((await run(sent.transferId, makeFile(folder, 'other', 10).filePath)).code, 11)
  assert.equal((await run('no-such-transfer')).code, 17)
  assert.equal((await run()).code, 2)
  assert.equal((await run('--receipt', kept(a)[0], file.filePath, 'more')).code, 2)
})
