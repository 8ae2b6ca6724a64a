'use strict'

// What becomes of a file whose name is taken where it is to be saved.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A file to send, and a folder in which another one has its name. */
function taken (t) {
  const folder = tempFolder(t)
  const saveDir = path.join(folder, 'in')
  fs.mkdirSync(saveDir)
  const file = makeFile(folder, 'data.csv', 2000)
  const old = makeFile(saveDir, 'data.csv', 1000)
  return { ...file, saveDir, old }
}

/** What the files of a folder hold. */
function held (folder) {
  return Object.fromEntries(contents(folder).map(name => [name, fs.readFileSync(path.join(folder, name))]))
}

test('accept into a folder numbers, replaces or keeps what has the name there', LIMIT, async (t) => {
  const { url } = await hub(t)
  const [a, b] = [await node(t, url, 'a'), await node(t, url, 'b')]
  b.watch()
  const { filePath, bytes, saveDir, old } = taken(t)
  const offered = async (options) => {
    const coming = nextOffer(b)
    const sent = a.send({ filePath, recipientId: 'b' })
    sent.catch(() => {})
    const offer = await coming
    return { offer, sent, received: offer.accept({ saveDir, ...options }) }
  }

  const kept = await offered({ existing: 'skip' })
  await assert.rejects(kept.received, failure('ALREADY_EXISTS'))
  assert.deepEqual(held(saveDir), { 'data.csv': old.bytes })
  // It still stands.
  await Promise.all([kept.offer.accept({ saveDir }), kept.sent])
  assert.deepEqual(held(saveDir), { 'data (1).csv': bytes, 'data.csv': old.bytes })

  const replaced = await offered({ existing: 'overwrite' })
  assert.equal((await replaced.received).filePath, path.join(saveDir, 'data.csv'))
  assert.deepEqual(held(saveDir), { 'data (1).csv': bytes, 'data.csv': bytes })
  await replaced.sent

  const before = fs.statSync(path.join(saveDir, 'data.csv'))
  const same = await offered({ existing: 'skip' })
  const { filePath: there, resumedFrom } = await same.received
  assert.deepEqual([there, resumedFrom], [path.join(saveDir, 'data.csv'), bytes.length])
  assert.equal(fs.statSync(there).ino, before.ino)
  await same.sent
})

test('listen --once declines what would take the place of a folder, and waits for another file', LIMIT, async (t) => {
  const { url } = await hub(t)
  const a = await node(t, url, 'a')
  const { filePath, saveDir, hash } = taken(t)
  fs.mkdirSync(path.join(saveDir, 'report', 'held'), { recursive: true })
  const listener = cli(t, ['listen', '--once', '--existing', 'overwrite', '--save-dir', saveDir, '--actor-id', 'b', '-u', url])
  await assert.rejects(a.send({ filePath, fileName: 'report', recipientId: 'b' }), failure('REJECTED', error => assert.match(error.message, /another file of this name/)))
  assert.equal((await a.send({ filePath, recipientId: 'b' })).hash, hash)
  assert.equal((await listener.ended).code, 0)
  assert.deepEqual(fs.readdirSync(path.join(saveDir, 'report')), ['held'])
})

for (const [existing, expected] of [
  ['rename', ({ bytes, old }) => ({ 'data (1).csv': bytes, 'data.csv': old.bytes })],
  ['overwrite', ({ bytes }) => ({ 'data.csv': bytes })],
  ['skip', ({ old }) => ({ 'data.csv': old.bytes })]
]) {
  test(`listen --existing ${existing} keeps to it, and its sender hears of it`, LIMIT, async (t) => {
    const { url } = await hub(t)
    const a = await node(t, url, 'a')
    const files = taken(t)
    const listener = cli(t, ['listen', '--existing', existing, '--save-dir', files.saveDir, '--json', '--actor-id', 'b', '-u', url])
    await listener.line('connected')
    const sent = await a.send({ filePath: files.filePath, recipientId: 'b' }).catch(error => error)
    if (existing === 'skip') failure('REJECTED')(sent)
    else assert.equal(sent.hash, files.hash)
    assert.deepEqual(held(files.saveDir), expected(files))
    // The same content counts as received wherever it is kept.
    if (existing === 'skip') {
      const { hash } = await a.send({ filePath: files.old.filePath, recipientId: 'b' })
      assert.equal(hash, files.old.hash)
      assert.deepEqual(held(files.saveDir), expected(files))
    }
  })
}
