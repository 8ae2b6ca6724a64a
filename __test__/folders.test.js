'use strict'

// Folders: sent as one archive, unpacked by peers of ours and taken as a file by others.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { bootstrapNodes, cli, contents, defer, failure, hub, listing, nextOffer, node, sha256, tempFolder } = require('./fixtures/harness')
const { verify } = require('..')
const { OriginalPeer } = require('./fixtures/original-peer')

const LIMIT = { timeout: 60_000, skip: process.platform === 'win32' && 'links and rights are another matter there' }
const SPARSE = 4 * 1024 * 1024

/** A folder of everything that may be in one; how many entries it has, and how many bytes. */
function makeTree (folder) {
  const tree = path.join(folder, 'dist')
  const content = crypto.randomBytes(300_000)
  for (const name of ['empty', 'src/deep', 'größe 🦀', 'd'.repeat(200)]) fs.mkdirSync(path.join(tree, name), { recursive: true })
  fs.writeFileSync(path.join(tree, 'src/deep/content'), content)
  fs.writeFileSync(path.join(tree, 'src-map'), '')
  fs.writeFileSync(path.join(tree, 'größe 🦀', 'ü.txt'), 'x')
  fs.writeFileSync(path.join(tree, 'd'.repeat(200), 'f'.repeat(200)), 'long')
  fs.writeFileSync(path.join(tree, 'run'), '#!/bin/sh\n', { mode: 0o750 })
  fs.symlinkSync('../run', path.join(tree, 'src/link'))
  fs.linkSync(path.join(tree, 'run'), path.join(tree, 'src/hard'))
  fs.writeFileSync(path.join(tree, 'sparse'), 'begins')
  fs.truncateSync(path.join(tree, 'sparse'), SPARSE)
  fs.chmodSync(path.join(tree, 'empty'), 0o700)
  for (const name of ['run', 'src/deep', 'src', 'empty', '']) fs.utimesSync(path.join(tree, name), 1_500_000_000, 1_500_000_000)
  return { tree, entries: 14, bytes: content.length + 1 + 4 + 2 * 10 + SPARSE }
}

test('a folder arrives as it was, in a folder or at the path that is asked for', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  const [a, b] = await Promise.all([node(t, url, 'a'), node(t, url, 'b', { home })])
  const { tree, entries, bytes } = makeTree(folder)
  const asked = []
  b.watch({ saveDir: path.join(folder, 'in'), shouldAccept: offer => asked.push(offer) > 0 })
  const results = []
  for (let i = 0; i < 2; i++) results.push(await a.send({ filePath: `${tree}/`, recipientId: 'b' }))
  assert.deepEqual(contents(path.join(folder, 'in')), ['dist', 'dist (1)'])
  for (const name of contents(path.join(folder, 'in'))) assert.deepEqual(listing(path.join(folder, 'in', name)), listing(tree))
  assert.ok(fs.statSync(path.join(folder, 'in/dist/sparse')).blocks * 512 < SPARSE / 2)
  for (const [i, { hash, size }] of results.entries()) {
    assert.deepEqual([asked[i].tree, asked[i].fileName, asked[i].fileSize, asked[i].fileHash], [{ entries, bytes }, 'dist', size, hash])
  }
  assert.equal(results[0].hash, results[1].hash, 'a folder has one archive')
  const received = path.join(folder, 'in/dist')
  const check = () => verify({ atsUrl: url, actorId: 'b', home, id: results[0].transferId, file: received })
  assert.equal((await check()).fileChecked, true)
  fs.rmSync(path.join(received, 'src-map'))
  await assert.rejects(check(), failure('INTEGRITY'))

  const c = await node(t, url, 'c')
  c.watch()
  const [there, taken] = ['there', 'taken'].map(name => path.join(folder, name))
  fs.mkdirSync(taken)
  fs.writeFileSync(path.join(taken, 'mine'), 'mine')
  fs.mkdirSync(there)
  const sent = a.send({ filePath: tree, recipientId: 'c' })
  const offer = await nextOffer(c)
  assert.deepEqual(offer.tree, { entries, bytes })
  await assert.rejects(offer.accept(taken), failure('ALREADY_EXISTS'))
  assert.deepEqual(contents(taken), ['mine'])
  const { filePath } = await offer.accept(there)
  assert.equal(filePath, there)
  assert.deepEqual(listing(there), listing(tree))
  await sent
})

test('a peer of the original kind gets an archive that tar reads', LIMIT, async (t) => {
  const { url, bootstrap } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a', { bootstrap })
  const original = new OriginalPeer({ atsUrl: url, actorId: 'original', bootstrap: bootstrapNodes(bootstrap) })
  defer(t, () => original.close())
  const { tree } = makeTree(folder)
  const received = original.receive({ saveDir: folder })
  await a.send({ filePath: tree, recipientId: 'original' })
  await received
  const names = execFileSync('tar', ['tf', path.join(folder, 'dist.tar')], { env: { ...process.env, LC_ALL: 'C.UTF-8' } }).toString()
  assert.equal(names.trimEnd().split('\n')[0], 'dist/')
  fs.mkdirSync(path.join(folder, 'out'))
  execFileSync('tar', ['xpf', path.join(folder, 'dist.tar'), '-C', path.join(folder, 'out'), '--no-same-owner'])
  assert.deepEqual(listing(path.join(folder, 'out/dist')), listing(tree))
})

test('a folder that is taken as a stream or into memory is its archive', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [a, b] = await Promise.all([node(t, url, 'a'), node(t, url, 'b')])
  const { tree } = makeTree(folder)
  b.watch()
  const taken = []
  for (const take of [async offer => Buffer.concat(await (await offer.accept()).toArray()), offer => offer.accept({ buffer: true })]) {
    const sending = a.send({ filePath: tree, recipientId: 'b' })
    const offer = await nextOffer(b)
    assert.deepEqual([offer.fileName, typeof offer.tree.entries], ['dist', 'number'])
    const archive = await take(offer)
    const { hash, size } = await sending
    assert.deepEqual([sha256(archive), archive.length], [hash, size])
    taken.push(archive)
  }
  assert.ok(taken[0].equals(taken[1]))
  const out = path.join(folder, 'out')
  fs.mkdirSync(out)
  execFileSync('tar', ['xp', '-C', out, '--no-same-owner'], { input: taken[0] })
  assert.deepEqual(listing(path.join(out, 'dist')), listing(tree))
})

test('on the command line a folder is sent without what is left out', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  for (const name of ['app.js', 'app.map', '.gitignore', 'node_modules/x']) {
    fs.mkdirSync(path.dirname(path.join(folder, 'dist', name)), { recursive: true })
    fs.writeFileSync(path.join(folder, 'dist', name), 'node_modules\n')
  }
  const saveDir = path.join(folder, 'in')
  const env = { ATS_URL: url }
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', saveDir, '--once'], { env })
  const { code, stdout, stderr } = await cli(t, ['send', path.join(folder, 'dist/'), '--to', 'b', '--gitignore', '--exclude', '*.map'], { env }).ended
  assert.equal(code, 0, stderr)
  assert.match(stdout, /^Offered dist \(3 entries, 26 B\) to b/m)
  const received = await listener.ended
  assert.equal(received.code, 0, received.stderr)
  assert.match(received.stdout, /^Receiving dist \(3 entries, 26 B\) from/m)
  assert.ok(received.stdout.includes(`Saved ${path.join(saveDir, 'dist')}, 3 entries, SHA-256`), received.stdout)
  assert.deepEqual(contents(path.join(saveDir, 'dist')), ['.gitignore', 'app.js'])
})
