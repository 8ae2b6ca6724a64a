'use strict'

// What arrives with a file's content: its name, its rights, its time, and paths that are no text.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')
const { quoted } = require('../bin/output')
const joiners = require('../crates/protocol/tests/joiners.json')

const LIMIT = { timeout: 120_000 }
const onUnix = { ...LIMIT, skip: process.platform === 'win32' && 'a path is text there, and rights are the folder\'s' }
const onLinux = { ...LIMIT, skip: process.platform !== 'linux' && 'nothing tells the bytes of an argument there' }

const NAMES = ['می‌خواهم.txt', '👨‍👩‍👧‍👦 2026.png', '❤️.txt', '.env', '.gitignore', 'क्‍ष.txt']

/** Two agents on a hub, and a folder. */
async function pair (t, options) {
  const { url } = await hub(t)
  return { url, folder: tempFolder(t), a: await node(t, url, 'a', options?.a), b: await node(t, url, 'b', options?.b) }
}

/** The arguments of a shell that starts a program with one more, of these bytes. */
function withLast (bytes) {
  const escaped = [...bytes].map(byte => `\\${byte.toString(8).padStart(3, '0')}`).join('')
  return ['sh', '-c', `exec "$@" "$(printf '${escaped}')"`, 'sh']
}

test('what is well-formed is printed as it is, and the rest is escaped', () => {
  for (const [what, text] of joiners.belong) assert.equal(quoted(text), text, what)
  for (const [what, text] of joiners.hidden) assert.notEqual(quoted(text), text, what)
})

test('a name that is well-formed in its script is kept, and shown as it is', LIMIT, async (t) => {
  const { url, folder, a } = await pair(t)
  const listener = cli(t, ['listen', '--actor-id', 'c', '--save-dir', path.join(folder, 'in')], { env: { ATS_URL: url } })
  for (const name of NAMES) await a.send({ filePath: makeFile(folder, name, 10).filePath, recipientId: 'c' })
  await a.send({ filePath: makeFile(folder, '.bashrc', 10).filePath, recipientId: 'c' })
  assert.deepEqual(contents(path.join(folder, 'in')), [...NAMES, '_bashrc'].sort())
  listener.kill('SIGTERM')
  const { stdout } = await listener.ended
  for (const name of NAMES) assert.ok(stdout.includes(`Saved ${path.join(folder, 'in', name)},`), `${name}: ${stdout}`)
})

test('rights and times are told with the offer and kept, unless that is not wanted', onUnix, async (t) => {
  const { url, folder, a, b } = await pair(t)
  const plain = await node(t, url, 'plain', { preserve: false })
  b.watch()
  plain.watch({ saveDir: path.join(folder, 'in') })
  const { filePath } = makeFile(folder, 'program', 10)
  const mtime = Date.UTC(2001, 1, 3)
  fs.utimesSync(filePath, mtime / 1000, mtime / 1000)
  fs.chmodSync(filePath, 0o4750)
  const sent = a.send({ filePath, recipientId: 'b' })
  const offer = await nextOffer(b)
  assert.deepEqual([offer.mode, offer.mtime], [0o750, mtime])
  const kept = fs.statSync((await offer.accept(path.join(folder, 'kept'))).filePath)
  await sent
  assert.equal(kept.mtimeMs, mtime)
  assert.ok((kept.mode & 0o100) === 0o100 && (kept.mode & 0o7777 & ~0o750) === 0, kept.mode.toString(8))
  await a.send({ filePath, recipientId: 'plain' })
  const { mode, mtimeMs } = fs.statSync(path.join(folder, 'in', 'program'))
  assert.ok((mode & 0o7777 & ~0o640) === 0 && mtimeMs > mtime, mode.toString(8))
})

test('a path is taken as bytes, whether they are text or not', onUnix, async (t) => {
  const { folder, a, b } = await pair(t)
  const at = (...bytes) => Buffer.concat([Buffer.from(`${folder}/`), ...bytes.map(part => Buffer.from(part))])
  const odd = at('sent', [0xff, 0xfe], '.bin')
  const content = Buffer.from('content')
  fs.writeFileSync(odd, content)
  b.watch()
  const takes = [
    [at('text.bin'), at('text.bin')],
    [at('taken', [0xff]), at('taken', [0xff])],
    [{ saveDir: at('in', [0xfe]) }, at('in', [0xfe], '/sent\u{fffd}\u{fffd}.bin')]
  ]
  for (const [target, place] of takes) {
    const completed = once(b, 'transfer_complete')
    const sending = a.send({ filePath: odd, recipientId: 'b' })
    const offer = await nextOffer(b)
    assert.equal(offer.fileName, 'sent\u{fffd}\u{fffd}.bin')
    const { filePath, filePathBytes } = await offer.accept(target)
    await sending
    assert.equal(filePath, place.toString())
    assert.deepEqual(filePathBytes ?? Buffer.from(filePath), place)
    assert.equal(filePathBytes !== undefined, filePath.includes('taken') || filePath.includes(`${path.sep}in`))
    assert.deepEqual((await completed)[0].filePathBytes, filePathBytes)
    assert.deepEqual(fs.readFileSync(place), content)
  }
  await assert.rejects(a.send({ filePath: at([0xff]), recipientId: 'b' }), failure('FILE_NOT_FOUND'))
  for (const nonsense of [Buffer.alloc(0), Buffer.from([0x61, 0, 0xff]), new Uint16Array(1)]) {
    await assert.rejects(a.send({ filePath: nonsense, recipientId: 'b' }), failure('INVALID_ARGUMENT'))
  }
})

test('a file whose name is not UTF-8 is sent from the command line', onLinux, async (t) => {
  const { url, folder, b } = await pair(t)
  b.watch({ saveDir: path.join(folder, 'in') })
  const odd = Buffer.concat([Buffer.from(`${folder}/odd`), Buffer.from([0xff])])
  fs.writeFileSync(odd, 'content')
  const send = more => cli(t, ['send', '--actor-id', 'a', '--to', 'b', ...more], { env: { ATS_URL: url }, prefix: withLast(odd) }).ended
  const sent = await send([])
  assert.equal(sent.code, 0, sent.stderr)
  assert.equal(fs.readFileSync(path.join(folder, 'in', 'odd\u{fffd}'), 'utf8'), 'content')
})

test('an argument whose bytes nobody knows is said to be one', () => {
  const { asGiven } = require('../bin/raw-arguments')
  assert.equal(asGiven('größe'), 'größe')
  if (process.platform !== 'win32') assert.throws(() => asGiven('nowhere\u{fffd}'), /not UTF-8/)
})
