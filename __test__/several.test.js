'use strict'

// Several files and folders as one offer.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { pathToFileURL } = require('node:url')
const { test } = require('node:test')
const { bootstrapNodes, cli, contents, defer, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')
const { verify } = require('..')
const { OriginalPeer } = require('./fixtures/original-peer')

const LIMIT = { timeout: 60_000 }
const UNIX = { ...LIMIT, skip: process.platform === 'win32' && 'pipes and links are another matter there' }

/** Two files, one in a folder of its own, and a folder with a file; and what a recipient is to have of them. */
function make (folder) {
  for (const name of ['photos', 'dist/js']) fs.mkdirSync(path.join(folder, name), { recursive: true })
  const photo = makeFile(folder, 'photos/a.jpg', 70_000)
  const script = makeFile(folder, 'dist/js/x.js', 10)
  const note = makeFile(folder, 'größe.txt', 0)
  const names = ['a.jpg', 'dist', 'größe.txt']
  const check = (received) => {
    assert.deepEqual(contents(received), names)
    for (const [name, { bytes }] of [['a.jpg', photo], ['dist/js/x.js', script], ['größe.txt', note]]) {
      assert.deepEqual(fs.readFileSync(path.join(received, name)), bytes)
    }
  }
  return { paths: [note.filePath, photo.filePath, path.join(folder, 'dist/')], tree: { entries: 6, bytes: 70_010 }, check }
}

test('several files and folders are one offer, and arrive in one folder of their own', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  const [a, b] = await Promise.all([node(t, url, 'a'), node(t, url, 'b', { home })])
  const { paths, tree, check } = make(folder)
  const asked = []
  const saveDir = path.join(folder, 'in')
  b.watch({ saveDir, shouldAccept: offer => asked.push(offer) > 0 })
  let last
  const completed = once(b, 'transfer_complete')
  const sent = await a.send({ filePaths: paths, recipientId: 'b', idempotencyKey: 'k', metadata: { n: 1 }, onProgress: (progress) => { last = progress } })
  const [{ fileName, fileSize, fileHash, metadata, ...offered }] = asked
  assert.deepEqual({ fileName, fileSize, fileHash, metadata, tree: offered.tree }, { fileName: 'a.jpg and 2 more', fileSize: sent.size, fileHash: sent.hash, metadata: { n: 1 }, tree })
  assert.equal(last.bytesSent, sent.size)
  const received = path.join(saveDir, fileName)
  check(received)
  await completed
  assert.equal((await verify({ atsUrl: url, actorId: 'b', home, id: sent.transferId, file: received })).fileChecked, true)

  // Named in another order, by other spellings and twice, they are the same.
  const again = [pathToFileURL(paths[2]), path.join(folder, 'dist', '..', 'photos', 'a.jpg'), Buffer.from(paths[1]), ...paths]
  const replayed = await a.send({ filePaths: again, recipientId: 'b', idempotencyKey: 'k', metadata: { n: 1 } })
  assert.deepEqual([replayed.replayed, replayed.hash], [true, sent.hash])
  await a.send({ filePaths: paths, recipientId: 'b' })
  assert.deepEqual(contents(saveDir), ['a.jpg and 2 more', 'a.jpg and 2 more (1)'])
  // One alone is what it is.
  await a.send({ filePaths: [paths[1], paths[1]], recipientIds: ['b'] })
  assert.equal(contents(saveDir).length, 3)
  assert.ok(fs.statSync(path.join(saveDir, 'a.jpg')).isFile())
})

test('several are accepted to a path under the name that they were given, and an original gets their archive', LIMIT, async (t) => {
  const { url, bootstrap } = await hub(t)
  const folder = tempFolder(t)
  const [a, c] = await Promise.all([node(t, url, 'a', { bootstrap }), node(t, url, 'c', { bootstrap })])
  const original = new OriginalPeer({ atsUrl: url, actorId: 'original', bootstrap: bootstrapNodes(bootstrap) })
  defer(t, () => original.close())
  const { paths, check } = make(folder)
  c.watch()
  const taken = original.receive({ saveDir: folder })
  const sending = a.send({ filePaths: paths, fileName: 'holiday', recipientIds: ['c', 'original'] })
  const offer = await nextOffer(c)
  assert.equal(offer.fileName, 'holiday')
  const { filePath } = await offer.accept(path.join(folder, 'there'))
  check(filePath)
  const [toOurs, toOriginal] = await sending
  assert.deepEqual([toOurs.success, toOriginal.success], [true, true])
  await taken
  const listed = execFileSync('tar', ['tf', path.join(folder, 'holiday.tar')], { env: { ...process.env, LC_ALL: 'C.UTF-8' } }).toString()
  assert.deepEqual(listed.split('\n').slice(0, 4), ['holiday/', 'holiday/a.jpg', 'holiday/dist/', 'holiday/dist/js/'])
})

test('what cannot be sent as one is refused before anything is offered', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  for (const name of ['one', 'two']) fs.mkdirSync(path.join(folder, name))
  const [one, two] = ['one/x', 'two/x'].map(name => makeFile(folder, name, 1).filePath)
  const refused = (options, code, message) => assert.rejects(a.send({ recipientId: 'b', ...options }), failure(code, (error) => {
    for (const part of [message].flat()) assert.ok(error.message.includes(part), error.message)
  }))
  await refused({ filePaths: [one, two] }, 'INVALID_ARGUMENT', [one, two, 'rename one of them'])
  await refused({ filePaths: [one, path.join(folder, 'none')] }, 'FILE_NOT_FOUND', 'none')
  await refused({ filePaths: [] }, 'INVALID_ARGUMENT', 'at least one file')
  await refused({ filePaths: one }, 'INVALID_ARGUMENT', 'must be an array')
  await refused({ filePaths: [one, 7] }, 'INVALID_ARGUMENT', 'each of send: filePaths must be a string')
  for (const [name, value] of [['filePath', one], ['data', 'x'], ['stream', ['x']]]) {
    await refused({ filePaths: [one], fileName: 'n', [name]: value }, 'INVALID_ARGUMENT', `${name === 'filePath' ? 'filePath and filePaths' : `filePaths and ${name}`} are given`)
  }
  await refused({ filePaths: [one], maxBytes: 5 }, 'INVALID_ARGUMENT', 'maxBytes goes with a stream')
})

test('on the command line several go at once, in the background too, and pipes go alone', UNIX, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { check } = make(folder)
  execFileSync('mkfifo', [path.join(folder, 'pipe')])
  const env = { ATS_URL: url, ATS_ACTOR_ID: 'a' }
  const saveDir = path.join(folder, 'in')
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', saveDir, '--once'], { env })
  const args = ['send', 'photos/a.jpg', 'dist/', 'größe.txt', '--to', 'b']
  const { code, stdout, stderr } = await cli(t, [...args, '--detach'], { env, cwd: folder }).ended
  assert.equal(code, 0, stderr)
  assert.match(stdout, /^Offered "?a\.jpg and 2 more"? \(6 entries, 68\.4 KiB\) to b/m)
  const received = await listener.ended
  assert.equal(received.code, 0, received.stderr)
  check(path.join(saveDir, 'a.jpg and 2 more'))
  const piped = await cli(t, [...args, 'pipe'], { env, cwd: folder }).ended
  assert.equal(piped.code, 2)
  assert.match(piped.stderr, /pipe is a pipe, and what comes by a pipe is sent alone/)
  const none = await cli(t, ['send', 'photos/a.jpg', 'none', '--to', 'b', '--json'], { env, cwd: folder }).ended
  assert.deepEqual([none.code, JSON.parse(none.stdout).code], [3, 'ATS_P2P_FILE_NOT_FOUND'])
})
