'use strict'

// The command line, as processes.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

test('hub, listen, send and status, as in the documentation', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const file = makeFile(folder, 'data 1.csv', 200_000)
  const service = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'hub'), '--json'])
  const { url, bootstrap } = await service.line('listening')
  assert.match(url, /^http:\/\/127\.0\.0\.1:\d+$/)
  assert.ok(bootstrap.length > 0)

  const env = { ATS_URL: url }
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', 'in', '--json'], { env, cwd: folder })
  const { atsUrl, channel, actorId } = await listener.line('connected')
  assert.deepEqual({ atsUrl, channel, actorId }, { atsUrl: url, channel: 'p2p-transfer', actorId: 'b' })
  const sent = await cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a'], { env }).ended
  assert.equal(sent.code, 0, sent.stderr)
  assert.equal(sent.stderr, '')
  assert.match(sent.stdout, /^Offered data 1\.csv \(195\.3 KiB\) to b, transfer [0-9a-f-]{36}$/m)
  assert.match(sent.stdout, new RegExp(`^SHA-256 ${file.hash}, verified by the recipient$`, 'm'))
  const { filePath, fileHash } = await listener.line('transfer_complete')
  assert.equal(filePath, path.join(folder, 'in', 'data 1.csv'))
  assert.equal(fileHash, file.hash)
  assert.deepEqual(fs.readFileSync(filePath), file.bytes)

  const [transferId] = /[0-9a-f-]{36}/.exec(sent.stdout)
  const status = await cli(t, ['status', transferId], { env }).ended
  assert.equal(status.code, 0)
  assert.match(status.stdout, /^Status: +completed$/m)
  assert.match(status.stdout, /^File: +data 1\.csv$/m)
  const json = await cli(t, ['status', transferId, '--json'], { env }).ended
  assert.equal(JSON.parse(json.stdout).status, 'completed')

  listener.kill('SIGINT')
  assert.equal((await listener.ended).code, 130)
  service.kill('SIGTERM')
  assert.equal((await service.ended).code, 143)
})

test('hub backup copies the database of a hub that runs, and another hub serves it', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const service = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'hub'), '--keep', 'forever', '--json'])
  const { url } = await service.line('listening')
  const headers = { 'X-Actor-ID': 'a', 'Content-Type': 'application/json' }
  await fetch(`${url}/tasks`, { method: 'POST', headers, body: JSON.stringify({ title: 'kept' }) })

  fs.mkdirSync(path.join(folder, 'copy'))
  const file = path.join(folder, 'copy', 'hub.sqlite')
  const backup = (...more) => cli(t, ['hub', 'backup', file, '--data', path.join(folder, 'hub'), ...more]).ended
  assert.deepEqual(await backup().then(({ code, stdout }) => ({ code, stdout })), { code: 0, stdout: `The database is copied to ${file}` })
  const again = await backup()
  assert.notEqual(again.code, 0)
  assert.match(again.stderr, /--force/)
  assert.equal((await backup('--force')).code, 0)

  const copy = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'copy'), '--json'])
  const { tasks } = await fetch(`${(await copy.line('listening')).url}/tasks`).then(answer => answer.json())
  assert.deepEqual(tasks.map(({ title }) => title), ['kept'])
})

test('a hub says what is wrong with its arguments', LIMIT, async (t) => {
  for (const [args, message] of [[['start'], /start/], [['backup'], /which file/], [['backup', 'a', 'b'], /too many/], [['--keep', 'long'], /90d/]]) {
    const { code, stderr } = await cli(t, ['hub', ...args]).ended
    assert.equal(code, 2, stderr)
    assert.match(stderr, message)
  }
})

test('the password of a hub\'s database is taken from no argument, and shown nowhere', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const url = 'postgres://hub:s3cret@127.0.0.1:1/tasks'
  for (const action of [[], ['key', 'list'], ['invite', '--actor', 'a'], ['backup', path.join(folder, 'copy')]]) {
    for (const text of [url, 'postgres://hub@127.0.0.1:1/tasks?password=s3cret']) {
      const { code, stderr } = await cli(t, ['hub', ...action, '--database', text, '--data', folder]).ended
      assert.equal(code, 2, stderr)
      assert.match(stderr, /ATS_P2P_DATABASE/)
      assert.doesNotMatch(stderr, /s3cret/)
    }
  }
  const file = path.join(folder, 'url')
  fs.writeFileSync(file, `${url}\n`)
  for (const [args, env] of [[['--database-file', file], {}], [[], { ATS_P2P_DATABASE: url }], [['--database', 'postgres://hub@127.0.0.1:1/tasks'], {}]]) {
    const ask = (...action) => cli(t, ['hub', ...action, '--data', folder, ...args], { env }).ended
    for (const action of [['--listen', '127.0.0.1:0'], ['key', 'list']]) {
      const { code, stderr } = await ask(...action)
      assert.notEqual(code, 0)
      assert.match(stderr, /postgres:\/\/127\.0\.0\.1:1\/tasks cannot be used/)
      assert.doesNotMatch(stderr, /s3cret/)
    }
    assert.match((await ask('backup', path.join(folder, 'copy'))).stderr, /pg_dump/)
  }
})

test('send --json says each step on a line', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1000)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'in') })
  const { code, stdout, stderr } = await cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json']).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const lines = stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual(lines.map(({ event }) => event).filter(event => event !== 'transfer_progress'), ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
  assert.equal(lines.at(-1).connection.path, 'lan')
  assert.equal(lines.at(-1).hash, file.hash)
})

test('--quiet says nothing but errors and what was asked for', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 3_000_000)
  const env = { ATS_URL: url }
  const listener = cli(t, ['listen', '--actor-id', 'b', '--quiet'], { env, cwd: folder })
  const send = (...more) => cli(t, ['send', file.filePath, '--to', 'b', '-q', ...more], { env }).ended
  const { code, stdout, stderr } = await send()
  assert.deepEqual({ code, stdout, stderr }, { code: 0, stdout: '', stderr: '' })
  const lines = (await send('--json')).stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual(lines.map(({ event }) => event), ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
  const status = await cli(t, ['status', lines[0].transferId, '-q'], { env }).ended
  assert.match(status.stdout, /^Status: +completed$/m)
  listener.kill('SIGINT')
  assert.deepEqual(await listener.ended.then(({ stdout, stderr }) => stdout + stderr), '')
  const detached = await send('--detach', '--timeout', '300')
  assert.match(detached.stdout, /^Offered x .*transfer [0-9a-f-]{36}$/m)
  const failed = await send('--timeout', '300')
  assert.deepEqual({ code: failed.code, stdout: failed.stdout }, { code: 9, stdout: '' })
  assert.match(failed.stderr, /ATS_P2P_OFFER_EXPIRED/)
})

test('nodes of a private DHT, through which agents find each other', LIMIT, async (t) => {
  const { url } = await hub(t)
  const first = cli(t, ['dht', '--host', '127.0.0.1', '--port', '0', '--json'])
  const { address, reachable } = await first.line('listening')
  assert.match(address, /^127\.0\.0\.1:\d+$/)
  assert.ok(reachable)
  const more = cli(t, ['dht', '--host', '127.0.0.1', '--port', '0', '--bootstrap', address, '--json'])
  assert.equal((await more.line('listening')).nodes, 1)

  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1000)
  const env = { ATS_URL: url, ATS_P2P_BOOTSTRAP: address }
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', 'in', '--json'], { env, cwd: folder })
  await listener.line('connected')
  const sent = await cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a'], { env }).ended
  assert.equal(sent.code, 0, sent.stderr)
  for (const node of [more, first]) {
    node.kill('SIGINT')
    const { code, stderr } = await node.ended
    assert.deepEqual({ code, stderr }, { code: 130, stderr: '' })
  }
})

test('wrong usage is exit code 2 and says what is wrong', LIMIT, async (t) => {
  for (const [args, message] of [
    [[], /Usage: ats-p2p/],
    [['sned'], /there is no command "sned"/],
    [['send'], /which file\?/],
    [['send', 'x'], /--to is required/],
    [['send', 'x', 'b'], /--to is required/],
    [['send', 'x', '-', '--to', 'b', '--name', 'y'], /- goes alone/],
    [['send', 'x', '--to'], /--to/],
    [['send', 'x', '--to', 'b', '--timeout', 'soon'], /--timeout must be a positive whole number/],
    [['send', 'x', '--to', 'b', '--ats-url', 'nowhere'], /--ats-url must be an http or https URL/],
    [['listen', '--max-size', '-1'], /max-size/],
    [['send', 'x', '--to', 'b', '--max-rate', '1000'], /--max-rate must be bytes a second, at least 1024/],
    [['listen', '--max-rate', '10X'], /--max-rate/],
    [['wait', 'x', '--timeout', '99999999999'], /--timeout must be at most 2147483647/],
    [['wait', ''], /for which transfer\?/],
    [['status', ' '], /of which transfer\?/],
    [['cancel', ''], /which transfer\?/],
    [['verify', ''], /TRANSFER must be the id/],
    [['health', '--actor-type', 'robot'], /--actor-type must be agent, human or system, not "robot"/],
    [['hub', '--relay', 'foo'], /--relay must be tasks, open or off/],
    [['hub', '--tunnel', 'foo'], /--tunnel must be tasks, keys, open or off/],
    [['send', 'x', '--to', 'b', '--metadata', 'null'], /--metadata must be JSON other than null/],
    [['listen', '--max-concurrent', '0'], /--max-concurrent must be a positive whole number/],
    [['listen', '--max-concurrent', '1000'], /--max-concurrent must be a whole number from 1 to 256/],
    [['listen', '--colour'], /Unknown option '--colour'/],
  ]) {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.deepEqual({ args, code, stdout }, { args, code: 2, stdout: '' })
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at /, 'a stack trace is no message for a user')
  }
})

test('--help and --version', LIMIT, async (t) => {
  for (const args of [['--help'], ['send', '--help'], ['listen', '-h'], ['hub', '--help'], ['dht', '--help'], ['demo', '--help'], ['doctor', '--help'], ['status', '--help'], ['id', '--help'], ['peers', '--help'], ['verify', '--help']]) {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.deepEqual({ args, code, stderr }, { args, code: 0, stderr: '' })
    assert.match(stdout, /Usage: ats-p2p/)
  }
  assert.equal((await cli(t, ['--version']).ended).stdout, require('../package.json').version)
})

test('each way of failing has its exit code', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 10)
  const b = await node(t, url, 'b')
  b.on('file', ({ reject }) => reject('not \u001b[31mtoday\u202e'))
  b.watch()
  const send = (filePath, to, more = []) => cli(t, ['send', filePath, '--to', to, '--ats-url', url, ...more]).ended
  const outcome = async (result, code, pattern) => {
    const { stderr, ...rest } = await result
    assert.equal(rest.code, code, stderr)
    assert.match(stderr, pattern)
    assert.doesNotMatch(stderr, /[\u001b\u202e]/)
  }
  await outcome(send(path.join(folder, 'none'), 'b'), 3, /ATS_P2P_FILE_NOT_FOUND/)
  await outcome(send('/dev/null', 'b'), 3, /ATS_P2P_NOT_A_FILE/)
  await outcome(send(file.filePath, 'b'), 8, /today.*ATS_P2P_REJECTED/)
  await outcome(send(file.filePath, 'nobody', ['--timeout', '300']), 9, /ATS_P2P_OFFER_EXPIRED/)
  await outcome(cli(t, ['send', file.filePath, '--to', 'b', '--ats-url', 'http://127.0.0.1:9', '--timeout', '2000']).ended, 5, /ATS_P2P_ATS_UNREACHABLE/)
  await outcome(cli(t, ['status', 'f7a1c8a2-0000-4000-8000-000000000000', '--ats-url', url]).ended, 14, /ATS_P2P_UNKNOWN_TRANSFER/)
})

test('SIGINT withdraws an offer that waits', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 10)
  const process = cli(t, ['send', file.filePath, '--to', 'nobody', '--ats-url', url, '--json'])
  const { taskId } = await process.line('offer_sent')
  process.kill('SIGINT')
  assert.equal((await process.ended).code, 130)
  const a = await node(t, url, 'a')
  assert.equal((await a.status(taskId)).status, 'cancelled')
})

test('SIGINT ends a transfer under way on both sides, and leaves nothing of it', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 300_000_000)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--json'], { cwd: folder })
  await listener.line('connected')
  const sender = cli(t, ['send', file.filePath, '--to', 'b', '--actor-id', 'a', '--ats-url', url, '--json'])
  const { taskId } = await sender.line('offer_sent')
  await listener.moving()
  listener.kill('SIGINT')
  assert.equal((await listener.ended).code, 130)
  const { code, stderr } = await sender.ended
  assert.equal(code, 12, stderr)
  assert.deepEqual(contents(path.join(folder, 'incoming')), [])
  const a = await node(t, url, 'a')
  assert.equal((await a.status(taskId)).status, 'failed')
})

test('listen takes files from those it is told to, and no larger than told', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--allow', 'a', '--max-size', '100', '--json'], { cwd: folder })
  await listener.line('connected')
  const small = makeFile(folder, 'small', 100)
  const large = makeFile(folder, 'large', 101)
  const send = (actor, { filePath }) => cli(t, ['send', filePath, '--to', 'b', '--actor-id', actor, '--ats-url', url, '--timeout', '3000']).ended
  assert.notEqual((await send('stranger', small)).code, 0)
  assert.notEqual((await send('a', large)).code, 0)
  assert.equal((await send('a', small)).code, 0)
  assert.deepEqual(contents(path.join(folder, 'incoming')), ['small'])
})

test('listen says in a word who sends', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 100)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url], { cwd: folder })
  const [a, unknown] = [await node(t, url, 'a'), await node(t, url, 'c', { identity: false })]
  // They wait for a recipient that is just starting.
  for (const sender of [a, a, unknown]) await sender.send({ filePath, recipientId: 'b' })
  listener.kill('SIGINT')
  const { stdout } = await listener.ended
  const said = stdout.split('\n').filter(line => line.startsWith('Receiving '))
  assert.deepEqual(said, ['a, first use', 'a, verified', 'c, unverified'].map(who => `Receiving x (100 B) from ${who}`))
})

test('demo delivers a file and leaves nothing behind', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const temp = path.join(folder, 'tmp')
  fs.mkdirSync(temp)
  const file = makeFile(folder, 'my file.bin', 3_000_000)
  const { code, stdout, stderr } = await cli(t, ['demo', file.filePath], { env: { TMPDIR: temp, TEMP: temp } }).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.match(stdout, /offers my file\.bin \(2\.9 MiB\)/)
  assert.match(stdout, /^Progress +100 %$/m)
  assert.match(stdout, /^Delivered 2\.9 MiB in [\d.]+ s \([\d.]+ MB\/s\)$/m)
  assert.match(stdout, new RegExp(`^SHA-256 +${file.hash}, the same on both sides$`, 'm'))
  assert.deepEqual(contents(temp), [])
})

test('an interrupted demo ends everything it started', LIMIT, async (t) => {
  const temp = tempFolder(t)
  const demo = cli(t, ['demo', '--json'], { env: { TMPDIR: temp, TEMP: temp } })
  const { url } = await demo.line('hub')
  demo.kill('SIGINT')
  assert.equal((await demo.ended).code, 130)
  assert.deepEqual(contents(temp), [])
  await assert.rejects(fetch(`${url}/health`), /fetch failed/)
})

test('demo says what went wrong', LIMIT, async (t) => {
  const { code, stderr } = await cli(t, ['demo', 'none']).ended
  assert.notEqual(code, 0)
  assert.match(stderr, /none/)
})
