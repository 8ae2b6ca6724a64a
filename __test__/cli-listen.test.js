'use strict'

// `listen --once` and `listen --exec`, as processes.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { Exec } = require('../bin/exec')
const { exitCode } = require('../bin/exit-codes')
const { cli, contents, failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const POSIX = { ...LIMIT, skip: process.platform === 'win32' && 'signals are not passed on there' }

/** A program that notes in a file what it was given, says something, and ends as `more` has it. */
function program (folder, more = '') {
  const file = path.join(folder, 'program.js')
  const names = 'ATS_P2P_FILE ATS_P2P_FILE_NAME ATS_P2P_HASH ATS_P2P_SIZE ATS_P2P_SENDER ATS_P2P_SENDER_IDENTITY ATS_P2P_VERIFIED ATS_P2P_TRANSFER_ID ATS_P2P_TASK_ID ATS_P2P_METADATA ATS_API_KEY ATS_P2P_DATABASE HTTPS_PROXY all_proxy KEPT'
  fs.writeFileSync(file, `
    const fs = require('fs')
    const env = Object.fromEntries(${JSON.stringify(names)}.split(' ').map(name => [name, process.env[name]]))
    fs.writeFileSync(${JSON.stringify(path.join(folder, 'given.json'))}, JSON.stringify({ args: process.argv.slice(2), env, argv0: process.argv0 }))
    console.log('{"said":"on stdout"}')
    ${more}`)
  return file
}

function given (folder) {
  return JSON.parse(fs.readFileSync(path.join(folder, 'given.json'), 'utf8'))
}

test('listen --once takes one file, leaves the other offers alone, and ends', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  const sends = ['one', 'two'].map((name) => {
    const sent = a.send({ filePath: makeFile(folder, name, 1000).filePath, recipientId: 'b' })
    sent.catch(() => {})
    return sent
  })
  await once(a, 'offer_sent')
  // One recipient, with one identity.
  const place = { cwd: folder, env: { ATS_P2P_HOME: path.join(folder, 'home') } }
  const { code, stdout, stderr } = await cli(t, ['listen', '--once', '--json', '--actor-id', 'b', '-u', url], place).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const complete = stdout.split('\n').map(line => JSON.parse(line)).filter(({ event }) => event === 'transfer_complete')
  assert.equal(complete.length, 1)
  assert.deepEqual(contents(path.join(folder, 'incoming')), [path.basename(complete[0].filePath)])
  await Promise.any(sends)

  const second = await cli(t, ['listen', '--once', '--actor-id', 'b', '-u', url], place).ended
  assert.equal(second.code, 0, second.stderr)
  await Promise.all(sends)
  assert.deepEqual(contents(path.join(folder, 'incoming')), ['one', 'two'])
})

test('listen --once ends with the exit code of a transfer that fails, and by no offer that it declines', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const listener = cli(t, ['listen', '--once', '--json', '--actor-id', 'b', '--allow', 'a', '-u', url], { cwd: folder })
  await listener.line('connected')
  const stranger = await node(t, url, 'stranger')
  const small = makeFile(folder, 'small', 10)
  await assert.rejects(stranger.send({ filePath: small.filePath, recipientId: 'b' }), failure('REJECTED'))

  const a = await node(t, url, 'a')
  const controller = new AbortController()
  const large = makeFile(folder, 'large', 200_000_000)
  const sent = a.send({ filePath: large.filePath, recipientId: 'b', signal: controller.signal })
  const aborted = assert.rejects(sent, failure('ABORTED'))
  await listener.line('transfer_start')
  controller.abort()
  await aborted
  const { code, stdout } = await listener.ended
  const failed = stdout.split('\n').map(line => JSON.parse(line)).filter(({ event }) => event === 'transfer_failed')
  assert.deepEqual(failed.map(({ peerId }) => peerId), ['stranger', 'a'])
  assert.equal(code, exitCode({ code: failed[1].code }))
  assert.notEqual(code, 0)
  assert.deepEqual(contents(path.join(folder, 'incoming')), [])
})

test('listen --exec runs a program for each file, without a shell and without secrets', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const script = program(folder)
  const env = {
    ATS_API_KEY: 'hush', ATS_P2P_DATABASE: 'postgres://u:hush@h/d', HTTPS_PROXY: 'http://u:h@sh@127.0.0.1:1', all_proxy: 'u:hush@127.0.0.1:1', KEPT: 'yes'
  }
  const listener = cli(t, ['listen', '--json', '--actor-id', 'b', '-u', url, '--exec', process.execPath, '--', script, '$(id); a b', '--json'], { cwd: folder, env })
  await listener.line('connected')
  const a = await node(t, url, 'a', { identity: false })
  const file = makeFile(folder, '-rf', 1000)
  const { transferId, taskId } = await a.send({ filePath: file.filePath, recipientId: 'b', metadata: { a: '$(id)\u0000' } })
  const { filePath, fileName } = await listener.line('transfer_complete')
  assert.equal(filePath, path.join(folder, 'incoming', fileName))
  const { event, durationMs, ...done } = await listener.line('exec_complete')
  assert.deepEqual(done, { transferId, taskId, filePath, program: process.execPath, exitCode: 0, signal: null })
  assert.ok(durationMs >= 0)
  const { args, env: seen } = given(folder)
  assert.deepEqual(args, ['$(id); a b', '--json', filePath])
  assert.deepEqual(seen, {
    ATS_P2P_FILE: filePath,
    ATS_P2P_FILE_NAME: fileName,
    ATS_P2P_HASH: file.hash,
    ATS_P2P_SIZE: '1000',
    ATS_P2P_SENDER: 'a',
    ATS_P2P_SENDER_IDENTITY: '',
    ATS_P2P_VERIFIED: '0',
    ATS_P2P_TRANSFER_ID: transferId,
    ATS_P2P_TASK_ID: String(taskId),
    ATS_P2P_METADATA: '{"a":"$(id)\\u0000"}',
    HTTPS_PROXY: 'http://127.0.0.1:1',
    all_proxy: '127.0.0.1:1',
    KEPT: 'yes'
  })
  listener.kill('SIGINT')
  const { code, stdout, stderr } = await listener.ended
  assert.equal(code, 130)
  assert.doesNotMatch(stdout, /"said"/)
  assert.match(stderr, /"said":"on stdout"/)
})

test('listen --exec tells what a program ended with, and goes on', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const listener = cli(t, ['listen', '--json', '--actor-id', 'b', '-u', url, '--exec', process.execPath, '--', '-e', 'process.exit(3)'], { cwd: folder })
  await listener.line('connected')
  const a = await node(t, url, 'a')
  const { filePath } = makeFile(folder, 'x', 10)
  for (const from of [0, 1]) {
    const seen = listener.lines()
    await a.send({ filePath, recipientId: 'b' })
    const { exitCode } = await listener.lineWhere(({ event }) => event === 'exec_complete', 'exec_complete', from && seen)
    assert.equal(exitCode, 3)
  }
  listener.kill('SIGTERM')
  const { code, stderr } = await listener.ended
  assert.equal(code, 143)
  assert.match(stderr, /ended with 3 for .*incoming.x$/m)
})

test('listen --once --exec: a program that fails is an exit code of its own', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const a = await node(t, url, 'a')
  const { filePath } = makeFile(folder, 'x', 10)
  const place = { cwd: folder, env: { ATS_P2P_HOME: path.join(folder, 'home') } }
  for (const [script, expected] of [['process.exit(3)', 20], ['process.exit(0)', 0]]) {
    const sent = a.send({ filePath, recipientId: 'b' })
    const { code, stderr } = await cli(t, ['listen', '--once', '--actor-id', 'b', '-u', url, '--exec', process.execPath, '--', '-e', script], place).ended
    assert.equal(code, expected, stderr)
    await sent
  }
})

test('at most four programs run at once, and the others after them', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const [log, go] = ['log', 'go'].map(name => path.join(folder, name))
  fs.writeFileSync(log, '')
  const script = `
    const fs = require('fs')
    fs.appendFileSync(${JSON.stringify(log)}, '+')
    const end = () => { if (!fs.existsSync(${JSON.stringify(go)})) return; fs.appendFileSync(${JSON.stringify(log)}, '-'); process.exit(0) }
    fs.watch(${JSON.stringify(folder)}, end)
    end()`
  const signal = new AbortController().signal
  const exec = new Exec(process.execPath, ['-e', script], { output: { note () {} }, interrupts: { signal, exitCode: null } })
  const four = new Promise((resolve) => {
    const watcher = fs.watch(folder, () => fs.readFileSync(log, 'utf8') === '++++' && resolve())
    t.after(() => watcher.close())
  })
  const runs = Array.from({ length: 6 }, (_, taskId) => exec.run({ filePath: log, fileName: 'log', fileHash: '', fileSize: 0, peerId: 'a', transferId: 't', taskId }))
  await four
  fs.writeFileSync(go, '')
  assert.deepEqual(await Promise.all(runs), Array(6).fill(true))
  let running = 0
  const most = Math.max(...[...fs.readFileSync(log, 'utf8')].map(sign => (running += sign === '+' ? 1 : -1)))
  assert.deepEqual([most, running], [4, 0])
})

test('a file that arrives after the interrupt is left as it is, and said so', async () => {
  const controller = new AbortController()
  const said = []
  const exec = new Exec(process.execPath, ['-e', ''], { output: { note () {}, problem: text => said.push(text) }, interrupts: { signal: controller.signal, exitCode: 143 } })
  controller.abort()
  assert.equal(await exec.run({ filePath: '/x', fileName: 'x', fileHash: '', fileSize: 0, peerId: 'a', transferId: 't', taskId: 1, metadata: null }), null)
  assert.match(said.join(), /was not run for \/x: interrupted/)
})

test('a program that is not there is told before anything is listened for', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const plain = path.join(folder, 'plain')
  fs.writeFileSync(plain, '')
  for (const [args, message] of [
    [['--exec', 'no-such-program'], /there is no program "no-such-program"/],
    [['--exec', plain], /there is no program ".*plain"/],
    [['--exec', folder], /there is no program/],
    [['--exec', ''], /there is no program/],
    [['--', 'x'], /"x" is for a program, and --exec names none/],
    [['x'], /"x" is one argument too many/]
  ]) {
    const { code, stderr } = await cli(t, ['listen', ...args]).ended
    assert.equal(code, 2, stderr)
    assert.match(stderr, message)
  }
})

test('a signal ends the program too, and what it started', POSIX, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const ended = path.join(folder, 'ended')
  const script = program(folder, `
    const started = require('child_process').spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000); process.stdout.write("up")'], { stdio: ['ignore', 'pipe', 'inherit'] })
    started.stdout.once('data', () => fs.writeFileSync(${JSON.stringify(path.join(folder, 'up'))}, ''))
    process.on('SIGTERM', () => {})
    started.on('exit', (code, signal) => { fs.writeFileSync(${JSON.stringify(ended)}, signal); process.exit(0) })
  `)
  const listener = cli(t, ['listen', '--json', '--actor-id', 'b', '-u', url, '--exec', process.execPath, '--', script], { cwd: folder })
  await listener.line('connected')
  const a = await node(t, url, 'a')
  const watcher = fs.watch(folder)
  const up = (async () => { for await (const [, name] of require('node:events').on(watcher, 'change')) if (name === 'up') return })()
  await a.send({ filePath: makeFile(folder, 'x', 10).filePath, recipientId: 'b' })
  await up
  watcher.close()
  listener.kill('SIGTERM')
  const { code, stdout } = await listener.ended
  assert.equal(code, 143)
  assert.equal(fs.readFileSync(ended, 'utf8'), 'SIGTERM')
  assert.match(stdout, /"event":"exec_complete".*"exitCode":0/)
})
