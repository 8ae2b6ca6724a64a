'use strict'

// Processes that die in the middle of a transfer: it goes on where it was, and nothing is left behind.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { startHub } = require('..')
const { cli, contents, defer, hub, listing, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }
// Some seconds' worth, so that what dies dies in the middle.
const SIZE = 256 * 1024 * 1024

/**
 * A sender `a` whose bytes are counted, and its recipient, a process that `listen` starts. `dies` has it killed once more
 * than so many bytes have come, which are `what`; the send goes on.
 */
async function mortal (t) {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [home, saveDir] = ['home', 'in'].map(name => path.join(folder, name))
  const a = await node(t, url, 'a')
  const listen = () => cli(t, ['listen', '--json', '--ats-url', url, '--actor-id', 'b', '--save-dir', saveDir], { env: { ATS_P2P_HOME: home } })
  const dies = async (options, most, what) => {
    const first = listen()
    await first.line('connected')
    const sending = a.send({ ...options, recipientId: 'b' })
    await first.lineWhere(({ event, bytes }) => event === 'transfer_progress' && bytes > most, what)
    first.kill('SIGKILL')
    await first.ended
    return { sending }
  }
  return { folder, home, saveDir, sent: countSent(a), listen, dies }
}

test('a recipient that is killed goes on where it was once it is started again', LIMIT, async (t) => {
  const { folder, home, saveDir, sent, listen, dies } = await mortal(t)
  const file = makeFile(folder, 'file', SIZE)
  const { sending } = await dies({ filePath: file.filePath }, SIZE / 3, 'a third of the file')
  const left = contents(saveDir)
  t.diagnostic(`left: ${left}, sent by then: ${sent()}`)

  const second = listen()
  const { filePath } = await second.line('transfer_complete')
  await sending
  assert.equal(sha256(fs.readFileSync(filePath)), file.hash)
  t.diagnostic(`sent in all: ${(sent() / SIZE).toFixed(3)} of its size`)
  // What was on its way comes once more, and not what had come.
  assert.ok(sent() < 1.25 * SIZE, `${sent()} bytes sent of ${SIZE}`)
  assert.deepEqual(contents(saveDir), ['file'])
  second.kill('SIGTERM')
  await second.ended
  assert.deepEqual(contents(path.join(home, 'transfers')).map(name => path.extname(name)), ['.done'])
})

test('a recipient that is killed within a folder goes on where it was, also within a large file of it', LIMIT, async (t) => {
  const { folder, home, saveDir, sent, listen, dies } = await mortal(t)
  const tree = path.join(folder, 'dist')
  for (let i = 0; i < 1500; i++) {
    const below = path.join(tree, 'small', String(i % 50))
    fs.mkdirSync(below, { recursive: true })
    fs.writeFileSync(path.join(below, `${i}.txt`), `${i}`.repeat(200), { mode: i % 3 ? 0o644 : 0o755 })
  }
  // The paths are sent in their order: it dies within the third file.
  const large = ['1', '2', '3', 'x'].map(name => makeFile(tree, name, 8 * 1024 * 1024))
  fs.symlinkSync('../3', path.join(tree, 'small/link'))
  const { sending } = await dies({ filePath: tree, maxRate: 16 * 1024 * 1024 }, 18 * 1024 * 1024, 'two files and some of the third')
  assert.match(contents(saveDir).join(), /^\.[0-9a-f]{16}\.part$/)

  const second = listen()
  const { resumedFrom } = await second.line('transfer_start')
  const { filePath } = await second.line('transfer_complete')
  const { size } = await sending
  t.diagnostic(`gone on with from ${resumedFrom}; sent in all: ${(sent() / size).toFixed(3)} of its size`)
  assert.ok(resumedFrom > 0, `gone on with from ${resumedFrom}`)
  assert.ok(sent() < 1.25 * size, `${sent()} bytes sent of ${size}`)
  assert.equal(filePath, path.join(saveDir, 'dist'))
  assert.deepEqual(contents(saveDir), ['dist'])
  for (const { hash, filePath: from } of large) assert.equal(sha256(fs.readFileSync(path.join(filePath, path.basename(from)))), hash)
  assert.deepEqual(listing(filePath), listing(tree))
  second.kill('SIGTERM')
  await second.ended
  assert.deepEqual(contents(path.join(home, 'transfers')).map(name => path.extname(name)), ['.done'])
})

test('a hub that is restarted in the middle of a transfer changes nothing about it', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const data = path.join(folder, 'hub')
  const before = await startHub({ listen: '127.0.0.1:0', data })
  const file = makeFile(folder, 'file', SIZE)
  const [a, b] = [await node(t, before.url, 'a'), await node(t, before.url, 'b')]
  const sent = countSent(a)
  b.watch({ saveDir: path.join(folder, 'in') })
  const moved = new Promise((resolve) => {
    b.on('transfer_progress', ({ phase, bytes }) => { if (phase === 'transferring' && bytes > 0) resolve() })
  })
  const complete = once(b, 'transfer_complete')
  const sending = a.send({ filePath: file.filePath, recipientId: 'b' })
  await moved
  await before.close()
  const after = await startHub({ listen: new URL(before.url).host, data })
  defer(t, () => after.close())
  const [{ filePath }] = await complete
  await sending
  assert.equal(sha256(fs.readFileSync(filePath)), file.hash)
  assert.ok(sent() < 1.5 * SIZE, `${sent()} bytes sent of ${SIZE}`)
  assert.deepEqual(contents(path.join(folder, 'in')), ['file'])
})

/** Counts the bytes of files that a node sends, those of one that are sent twice included. */
function countSent (sender) {
  let [sent, last] = [0, 0]
  sender.on('transfer_progress', ({ phase, bytes }) => {
    if (phase !== 'transferring') return
    sent += Math.max(bytes - last, 0)
    last = bytes
  })
  return () => sent
}
