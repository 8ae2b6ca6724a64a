'use strict'

// `send` to several recipients, as a process.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A recipient that takes all into a folder of its name. */
async function recipient (t, url, actorId, folder) {
  const made = await node(t, url, actorId)
  made.watch({ saveDir: path.join(folder, actorId) })
  return made
}

test('each of several recipients has a transfer of its own, and each line says whose it is', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 300_000)
  // Whose id has a comma is one recipient.
  for (const id of ['b', 'c,d']) await recipient(t, url, id, folder)
  const send = (...more) => cli(t, ['send', file.filePath, '--to', 'b', '-t', 'c,d', '--to=b', '-u', url, '--actor-id', 'a', ...more]).ended
  const { code, stdout, stderr } = await send('--json')
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const lines = stdout.split('\n').map(line => JSON.parse(line))
  for (const id of ['b', 'c,d']) {
    const of = lines.filter(({ recipientId, peerId }) => (recipientId ?? peerId) === id)
    const events = of.map(({ event }) => event).filter(event => event !== 'transfer_progress')
    assert.deepEqual(events, ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
    assert.equal(of.at(-1).hash, file.hash)
    assert.equal(new Set(of.map(({ transferId }) => transferId)).size, 1)
    assert.deepEqual(fs.readFileSync(path.join(folder, id, 'x')), file.bytes)
  }
  const ids = lines.filter(({ event }) => event === 'offer_sent').map(({ transferId }) => transferId)
  assert.equal(new Set(ids).size, 2)
  assert.equal(ids.length, 2, 'whoever is named twice has it once')
})

test('what becomes of one recipient changes nothing for the others, and all of it is told', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1000)
  await recipient(t, url, 'b', folder)
  const refuses = await node(t, url, 'c')
  refuses.on('file', ({ reject }) => reject('no'))
  refuses.watch()
  const place = { env: { ATS_P2P_HOME: path.join(folder, 'home') } }
  const send = (...more) => cli(t, ['send', file.filePath, '--to', 'b', '--to', 'c', '-u', url, '--actor-id', 'a', ...more], place).ended
  const { code, stdout, stderr } = await send('--to', 'nobody', '--timeout', '2000')
  assert.equal(code, 8, stderr)
  assert.match(stdout, /^Sent x to b in /m)
  assert.match(stderr, /^ats-p2p: c: .*ATS_P2P_REJECTED/m)
  assert.match(stderr, /^ats-p2p: nobody: .*ATS_P2P_OFFER_EXPIRED/m)
  const json = await send('--json')
  const failed = json.stdout.split('\n').map(line => JSON.parse(line)).filter(({ event }) => event === 'failed')
  assert.deepEqual(failed.map(({ recipientId, code }) => [recipientId, code]), [['c', 'ATS_P2P_REJECTED']])
})

test('SIGINT withdraws the offers to all', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 10)
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--to', 'c', '-u', url, '--actor-id', 'a', '--json'])
  const offers = []
  for (const id of ['b', 'c']) offers.push(await sender.lineWhere(({ event, recipientId }) => event === 'offer_sent' && recipientId === id, 'offer_sent'))
  sender.kill('SIGINT')
  const { code, stderr } = await sender.ended
  assert.deepEqual({ code, stderr }, { code: 130, stderr: '' })
  const a = await node(t, url, 'a')
  for (const { taskId } of offers) assert.equal((await a.status(taskId)).status, 'cancelled')
})
