'use strict'

// A recipient's machine that runs short of something, or dies: offers wait, and what nobody can use is swept.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { child, cli, contents, defer, failure, hub, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }
const OFFERS = 80
// A second's worth, so that what dies dies in the middle.
const SIZE = 128 * 1024 * 1024

const limitOfFiles = process.platform === 'win32' ? 'there is no limit of open files' : false

test('a listener that may open 64 files takes 80 that are offered at once', { ...LIMIT, skip: limitOfFiles }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const inbox = path.join(folder, 'in')
  const prefix = ['sh', '-c', 'ulimit -n 64 && exec "$@"', 'sh']
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', inbox, '--ats-url', url, '--json'], { prefix })
  await listener.line('connected')
  const a = await node(t, url, 'a', { timeout: 100_000 })
  const files = Array.from({ length: OFFERS }, (_, n) => makeFile(folder, `f${n}`, 100_000))
  await Promise.all(files.map(({ filePath }) => a.send({ filePath, recipientId: 'b' })))
  for (const { filePath, hash } of files) {
    assert.equal(sha256(fs.readFileSync(path.join(inbox, path.basename(filePath)))), hash)
  }
  listener.kill('SIGINT')
  const { stdout } = await listener.ended
  assert.doesNotMatch(stdout, /transfer_failed/)
  assert.deepEqual(contents(inbox).filter(name => name.startsWith('.')), [])
})

test('a state folder that cannot be kept ends listen at once', LIMIT, async (t) => {
  const { url } = await hub(t)
  const { filePath } = makeFile(tempFolder(t), 'file', 1)
  for (const home of [filePath, path.join(filePath, 'below')]) {
    const { code, stdout, stderr } = await cli(t, ['listen', '--ats-url', url, '--json'], { env: { ATS_P2P_HOME: home } }).ended
    assert.equal(code, 4, stderr)
    assert.ok(stderr.includes(home) && /make it a folder that can be written.*ATS_P2P_STATE/.test(stderr), stderr)
    assert.doesNotMatch(stdout, /connected/)
  }
})

test('a file that has no room waits until there is some, and others go meanwhile', { ...LIMIT, skip: smallDisks() }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const disk = smallDisk(t, folder, '8m')
  fs.writeFileSync(path.join(disk, 'filler'), Buffer.alloc(5 << 20))
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', path.join(disk, 'in'), '--ats-url', url, '--json'])
  await listener.line('connected')
  const a = await node(t, url, 'a')
  const large = a.send({ filePath: makeFile(folder, 'large', 4 << 20).filePath, recipientId: 'b' })
  large.catch(() => {})
  assert.match((await listener.line('warning')).message, /no room for 4194304 bytes.*ATS_P2P_DISK_FULL/)
  await a.send({ filePath: makeFile(folder, 'small', 1000).filePath, recipientId: 'b' })
  fs.rmSync(path.join(disk, 'filler'))
  await large
  listener.kill('SIGINT')
  const { stdout } = await listener.ended
  assert.equal(stdout.split('\n').filter(line => line.includes('"event":"warning"')).length, 1, stdout)
  assert.doesNotMatch(stdout, /transfer_failed/)
})

test('what had come of a file is kept where the disk is full when its recipient starts again', { ...LIMIT, skip: smallDisks() }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const disk = smallDisk(t, folder, '64m')
  const env = { ATS_P2P_HOME: path.join(folder, 'state') }
  const listen = () => cli(t, ['listen', '--actor-id', 'b', '--save-dir', path.join(disk, 'in'), '--ats-url', url, '--json', '--max-rate', '20M'], { env })
  const dying = listen()
  await dying.line('connected')
  const a = await node(t, url, 'a')
  const { filePath, hash } = makeFile(folder, 'large', 40 << 20)
  const sent = a.send({ filePath, recipientId: 'b' })
  sent.catch(() => {})
  await dying.lineWhere(({ event, bytes }) => event === 'transfer_progress' && bytes > 10 << 20, 'some of it')
  dying.kill('SIGKILL')
  await dying.ended
  fs.writeFileSync(path.join(disk, 'filler'), Buffer.alloc(32 << 20))
  const again = listen()
  assert.match((await again.line('warning')).message, /no room for .*ATS_P2P_DISK_FULL/)
  fs.rmSync(path.join(disk, 'filler'))
  const { resumedFrom } = await again.line('transfer_start')
  assert.ok(resumedFrom > 0, 'it began anew')
  await sent
  assert.equal(sha256(fs.readFileSync(path.join(disk, 'in', 'large'))), hash)
})

// What accepts a file to a path, and dies in the middle of it.
const DYING = `
  const { createNode } = require(process.env.FIXTURE_PACKAGE)
  const [atsUrl, home, target, how] = process.argv.slice(1)
  createNode({ atsUrl, actorId: 'b', home }).then((b) => {
    b.on('connected', () => console.log('{"event":"connected"}'))
    b.on('file', ({ accept }) => { accept(target) })
    b.on('transfer_progress', ({ bytes }) => {
      if (bytes > 1e6) how === 'exit' ? process.exit(7) : process.kill(process.pid, 'SIGKILL')
    })
    b.watch()
  })`

for (const how of ['exit', 'kill']) {
  test(`what a process leaves that ends by ${how} in the middle is swept at the next start of its home, once it is of no use`, LIMIT, async (t) => {
    const { url } = await hub(t)
    const folder = tempFolder(t)
    const [home, into] = [path.join(folder, 'home'), path.join(folder, 'into')]
    fs.mkdirSync(into)
    const large = makeFile(folder, 'large', SIZE)
    // Another process of this home, with a file of its own.
    const listener = cli(t, ['listen', '--actor-id', 'b', '--channel', 'other', '--save-dir', path.join(folder, 'in'), '--ats-url', url, '--json'], { env: { ATS_P2P_HOME: home } })
    await listener.line('connected')
    const dying = child(t, ['-e', DYING, url, home, path.join(into, 'copy'), how], { env: { ...process.env, FIXTURE_PACKAGE: path.join(__dirname, '..') } })
    await dying.line('connected')
    const a = await node(t, url, 'a')
    const over = new AbortController()
    const sent = a.send({ filePath: large.filePath, recipientId: 'b', signal: over.signal })
    sent.catch(() => {})
    await dying.ended
    // One that exits has half a second to put things in order, and tells the sender.
    assert.match(contents(into).join(), how === 'exit' ? /^(\.[0-9a-f]{16}\.part)?$/ : /^\.[0-9a-f]{16}\.part$/)
    over.abort()
    await assert.rejects(sent, how === 'exit' ? undefined : failure('ABORTED'))

    const other = a.send({ filePath: large.filePath, recipientId: 'b', channel: 'other' })
    await listener.lineWhere(({ event, bytes }) => event === 'transfer_progress' && bytes > 0, 'progress')
    // The next start, though it receives nothing.
    const again = await node(t, url, 'b', { home })
    again.send({ filePath: makeFile(folder, 'small', 1).filePath, recipientId: 'nobody' }).catch(() => {})
    await untilEmpty(t, into)
    await other
    assert.deepEqual(contents(path.join(folder, 'in')), ['large'])
  })
}

/** Waits until nothing is in a folder. */
async function untilEmpty (t, folder) {
  const watcher = fs.watch(folder)
  defer(t, () => watcher.close())
  while (contents(folder).length > 0) await once(watcher, 'change')
}

/** A disk in a folder that holds no more than `size`. */
function smallDisk (t, folder, size) {
  const disk = path.join(folder, 'disk')
  fs.mkdirSync(disk)
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'small', disk])
  // A process that was killed may hold it a moment longer.
  defer(t, () => execFileSync('umount', ['-l', disk]))
  return disk
}

/** Why no small disk can be had here, or false. */
function smallDisks () {
  if (process.platform !== 'linux' || process.getuid() !== 0) return 'skipped: a small disk needs Linux and root'
  const { error, status } = require('node:child_process').spawnSync('unshare', ['-m', 'mount', '-t', 'tmpfs', 'none', '/mnt'])
  return error || status !== 0 ? 'skipped: this root may mount nothing' : false
}
