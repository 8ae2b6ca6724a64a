'use strict'

// A send that goes on in a process of its own, and what follows and ends it.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, defer, hub, makeFile, node, sha256, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** What the tests share: a hub, and one home for all commands of an agent. */
async function world (t, actor = 'a') {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  const env = { ATS_URL: url, ATS_ACTOR_ID: actor, ATS_P2P_HOME: home }
  // What goes on by itself would outlive the test.
  defer(t, () => { for (const { pid, ended } of states(home)) if (!ended) kill(pid) })
  return {
    url,
    folder,
    home,
    env,
    run: (args, options = {}) => cli(t, [...args, '--json'], { env, cwd: folder, ...options }),
    text: args => cli(t, args, { env, cwd: folder }).ended
  }
}

function states (home) {
  return contents(path.join(home, 'transfers'))
    .filter(name => name.endsWith('.detached'))
    .map(name => JSON.parse(fs.readFileSync(path.join(home, 'transfers', name), 'utf8')))
}

function kill (pid, signal = 'SIGKILL') {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if (error.code !== 'ESRCH') throw error
  }
}

/** What `status` says of what is sent in the background. */
async function listed ({ text }) {
  const { code, stdout, stderr } = await text(['status'])
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  return stdout
}

/** Sends `args` off, and gives what it said of the offer. */
async function detach ({ run }, args) {
  const { code, stdout, stderr } = await run(['send', ...args, '--detach']).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const [offer, ...more] = stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual([offer.event, more], ['offer_sent', []])
  return offer
}

test('a detached send by everybody\'s name warns once, and goes on', LIMIT, async (t) => {
  const agents = await world(t)
  const { hash } = makeFile(agents.folder, 'x', 1000)
  const b = await node(t, agents.url, 'b')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  const { ATS_ACTOR_ID: _, ...env } = agents.env
  const { code, stdout } = await agents.run(['send', 'x', '--to', 'b', '--detach'], { env }).ended
  assert.equal(code, 0, stdout)
  const [warning, offer, ...more] = stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual([warning.code, offer.event, more], ['ATS_P2P_DEFAULT_ACTOR', 'offer_sent', []])
  const waited = await agents.run(['wait', offer.transferId], { env }).ended
  assert.equal(waited.code, 0, waited.stderr)
  assert.equal(JSON.parse(waited.stdout.split('\n').at(-1)).hash, hash)
})

test('a detached send returns once the file is offered, and wait follows it to its end', LIMIT, async (t) => {
  const agents = await world(t)
  const file = makeFile(agents.folder, 'x', 5_000_000)
  assert.match(await listed(agents), /^Nothing was sent in the background/)
  const { transferId, taskId, detached } = await detach(agents, ['x', '--to', 'b'])
  assert.equal(await listed(agents), `${transferId}  x to b: waiting`)
  const [{ running, exitCode }] = JSON.parse((await agents.run(['status']).ended).stdout).transfers
  assert.deepEqual({ running, exitCode }, { running: true, exitCode: null })
  assert.equal(detached.log, path.join(agents.home, 'logs', `${transferId}.log`))
  process.kill(detached.pid, 0)
  assert.equal(fs.statSync(detached.log).mode & 0o777, 0o600)

  const waiting = agents.run(['wait', transferId])
  assert.equal((await waiting.line('transfer_progress')).phase, 'waiting')
  const b = await node(t, agents.url, 'b')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  const { code, stdout, stderr } = await waiting.ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const last = JSON.parse(stdout.split('\n').at(-1))
  assert.deepEqual([last.event, last.transferId, last.hash, last.success], ['transfer_complete', transferId, file.hash, true])
  assert.equal(sha256(fs.readFileSync(path.join(agents.folder, 'in', 'x'))), file.hash)

  // It is over, and says so at once; from another machine, its task does.
  const again = await agents.text(['wait', String(taskId)])
  assert.equal(again.code, 0, again.stderr)
  assert.match(again.stdout, new RegExp(`^Sent x to b in .*\nSHA-256 ${file.hash}, verified by the recipient$`))
  const elsewhere = await cli(t, ['wait', transferId], { env: { ATS_URL: agents.url } }).ended
  assert.equal(elsewhere.code, 0, elsewhere.stderr)
  assert.match(elsewhere.stdout, new RegExp(`SHA-256 ${file.hash}, verified by the recipient$`))
  const log = fs.readFileSync(detached.log, 'utf8').trim().split('\n').map(line => JSON.parse(line).event)
  assert.deepEqual(log, ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'])
})

test('what a detached send fails with before it has offered anything is told at once', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  for (const [args, exit, error] of [
    [['none', '--to', 'b'], 3, 'ATS_P2P_FILE_NOT_FOUND'],
    [['x', '--to', 'b', '--ats-url', 'http://127.0.0.1:9', '--timeout', '1500'], 5, 'ATS_P2P_ATS_UNREACHABLE'],
    [['x', '--to', 'b', '--ats-url', 'nowhere'], 2, 'ATS_P2P_INVALID_ARGUMENT']
  ]) {
    const { code, stdout, stderr } = await agents.run(['send', ...args, '--detach']).ended
    assert.equal(code, exit, stderr)
    assert.equal(JSON.parse(stdout).code, error)
    assert.doesNotMatch(stderr, /\n\s+at /)
  }
  assert.deepEqual(contents(path.join(agents.home, 'logs')), [])
  assert.deepEqual(states(agents.home), [])
  fs.writeFileSync(path.join(agents.folder, 'file'), '')
  const unwritable = await agents.run(['send', 'x', '--to', 'b', '--detach'], { env: { ...agents.env, ATS_P2P_HOME: path.join(agents.folder, 'file') } }).ended
  assert.equal(unwritable.code, 4, unwritable.stderr)
})

test('wait exits as the transfer ends, whoever follows it', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  const wait = (id, more = []) => agents.run(['wait', id, ...more]).ended
  const elsewhere = id => cli(t, ['wait', id, '--json'], { env: { ATS_URL: agents.url } }).ended
  const is = async (transferId, exit, error) => {
    for (const { code, stdout, stderr } of await Promise.all([wait(transferId), elsewhere(transferId)])) {
      assert.equal(code, exit, stderr)
      const last = JSON.parse(stdout.split('\n').at(-1))
      assert.deepEqual([last.event, last.code, last.transferId], ['failed', error, transferId])
      assert.match(stderr, new RegExp(error))
    }
  }
  const expiring = await detach(agents, ['x', '--to', 'nobody', '--timeout', '700'])
  await is(expiring.transferId, 9, 'ATS_P2P_OFFER_EXPIRED')

  const b = await node(t, agents.url, 'b')
  b.on('file', ({ reject }) => reject('not today'))
  b.watch()
  const declined = await detach(agents, ['x', '--to', 'b'])
  await is(declined.transferId, 8, 'ATS_P2P_REJECTED')

  const ended = await detach(agents, ['x', '--to', 'nobody'])
  const cancelled = await agents.text(['cancel', ended.transferId])
  assert.deepEqual([cancelled.code, cancelled.stdout], [0, `Transfer ${ended.transferId} is cancelled`])
  await is(ended.transferId, 13, 'ATS_P2P_CANCELLED')
  assert.equal((await wait('f7a1c8a2-0000-4000-8000-000000000000')).code, 14)
})

test('wait gives up after its own time, and a transfer that it follows goes on', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  const { transferId, detached } = await detach(agents, ['x', '--to', 'b'])
  for (const env of [agents.env, { ATS_URL: agents.url }]) {
    const { code, stdout, stderr } = await cli(t, ['wait', transferId, '--timeout', '600', '--json'], { env }).ended
    assert.equal(code, 18, stderr)
    assert.equal(JSON.parse(stdout.split('\n').at(-1)).event, 'waited')
  }
  const interrupted = agents.run(['wait', transferId])
  await interrupted.line('transfer_progress')
  interrupted.kill('SIGINT')
  assert.equal((await interrupted.ended).code, 130)
  process.kill(detached.pid, 0)
})

test('a detached send outlives its terminal, and what was killed can be gone on with', LIMIT, async (t) => {
  const agents = await world(t)
  const file = makeFile(agents.folder, 'x', 300_000)
  const { transferId, taskId, detached } = await detach(agents, ['x', '--to', 'b'])
  if (process.platform === 'linux') {
    const [, group, session] = fs.readFileSync(`/proc/${detached.pid}/stat`, 'utf8').split(') ')[1].split(' ').slice(1).map(Number)
    assert.deepEqual([group, session], [detached.pid, detached.pid])
    const open = ['0', '1', '2'].map(fd => fs.readlinkSync(`/proc/${detached.pid}/fd/${fd}`))
    assert.deepEqual(open, ['/dev/null', detached.log, detached.log])
  }
  kill(detached.pid, 'SIGHUP')
  const waiting = agents.run(['wait', String(taskId)])
  await waiting.line('transfer_progress')
  kill(detached.pid)
  const { code, stderr } = await waiting.ended
  assert.equal(code, 22, stderr)
  assert.match(stderr, /`ats-p2p resume` goes on with it/)
  assert.equal(await listed(agents), `${transferId}  x to b: its process ended in the middle; \`ats-p2p resume\` goes on with it`)

  const b = await node(t, agents.url, 'b')
  const resuming = agents.run(['resume'])
  await resuming.line('offer_resumed')
  const again = agents.run(['wait', transferId])
  await again.line('transfer_progress')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  assert.equal((await again.ended).code, 0)
  assert.equal((await resuming.ended).code, 0)
  assert.equal(await listed(agents), `${transferId}  x to b: delivered`)
  assert.equal(sha256(fs.readFileSync(path.join(agents.folder, 'in', 'x'))), file.hash)
})

test('a detached send whose first process dies before it could say of it ends too', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  // A service that takes connections, and says nothing.
  const silent = net.createServer(() => {}).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  defer(t, () => silent.close())
  const env = { ...agents.env, ATS_URL: `http://127.0.0.1:${silent.address().port}` }
  const first = agents.run(['send', 'x', '--to', 'b', '--detach'], { env })
  const [connection] = await once(silent, 'connection')
  first.kill('SIGKILL')
  await once(connection.resume(), 'close')
  // Its log goes last.
  const logs = path.join(agents.home, 'logs')
  const watcher = fs.watch(logs)
  defer(t, () => watcher.close())
  while (contents(logs).length > 0) await once(watcher, 'change')
})

test('cancel ends a detached send in the middle of its bytes, and wait says so', LIMIT, async (t) => {
  const agents = await world(t)
  fs.truncateSync(makeFile(agents.folder, 'x', 0).filePath, 2 ** 30)
  const b = await node(t, agents.url, 'b')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  const failed = once(b, 'transfer_failed')
  const moves = once(b, 'transfer_progress')
  const { transferId } = await detach(agents, ['x', '--to', 'b'])
  await moves
  const waiting = agents.run(['wait', transferId])
  await waiting.line('transfer_progress')
  const cancelled = await agents.text(['cancel', transferId])
  assert.equal(cancelled.code, 0, cancelled.stderr)
  const { code, stdout } = await waiting.ended
  assert.deepEqual([code, JSON.parse(stdout.split('\n').at(-1)).code], [13, 'ATS_P2P_CANCELLED'])
  await failed
  assert.deepEqual(contents(path.join(agents.folder, 'in')), [])
})

test('nothing of what is sent stands in arguments of the process in the background', { ...LIMIT, skip: process.platform !== 'linux' }, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'secret-name', 10)
  const { detached } = await detach(agents, ['secret-name', '--to', 'secret-actor'])
  assert.doesNotMatch(fs.readFileSync(`/proc/${detached.pid}/cmdline`, 'utf8'), /secret/)
})

test('what is remembered of detached sends is bounded, and none that runs is forgotten', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  const running = await detach(agents, ['x', '--to', 'b'])
  const [state] = states(agents.home)
  const transfers = path.join(agents.home, 'transfers')
  const old = new Date(Date.now() - 8 * 24 * 3600 * 1000)
  for (let i = 0; i < 110; i++) {
    const transferId = `00000000-0000-4000-8000-${String(i).padStart(12, '0')}`
    const file = path.join(transfers, `${transferId}.detached`)
    fs.writeFileSync(file, JSON.stringify({ ...state, transferId, ended: { exitCode: 0 } }))
    fs.writeFileSync(path.join(agents.home, 'logs', `${transferId}.log`), '')
    if (i < 20) fs.utimesSync(file, old, old)
  }
  fs.utimesSync(path.join(transfers, `${running.transferId}.detached`), old, old)
  const newer = await detach(agents, ['x', '--to', 'b'])
  const left = states(agents.home).map(({ transferId }) => transferId)
  assert.ok(left.includes(running.transferId) && left.includes(newer.transferId))
  assert.equal(left.length, 92)
  assert.equal(contents(path.join(agents.home, 'logs')).length, 92)
})

test('what a detached send tells to type works for whoever named service and actor by options', LIMIT, async (t) => {
  const { url, folder, home, run } = await world(t)
  makeFile(folder, 'x', 10)
  const env = { ATS_P2P_HOME: home }
  const agents = { run: args => run(args, { env }), text: args => cli(t, args, { env, cwd: folder }).ended }
  const flags = ['-u', url, '--actor-id', 'a 1', '--channel', 'c']
  const cancelled = await detach(agents, ['x', '--to', 'b', ...flags])
  assert.equal((await agents.text(['cancel', cancelled.transferId])).stdout, `Transfer ${cancelled.transferId} is cancelled`)
  const { transferId, detached } = await detach(agents, ['x', '--to', 'b', ...flags])
  kill(detached.pid)
  const { code, stderr } = await agents.text(['wait', transferId])
  assert.equal(code, 22, stderr)
  const command = `ats-p2p resume --ats-url ${url} --channel c --actor-id 'a 1'`
  assert.deepEqual([...(/`(ats-p2p resume[^`]*)`/.exec(stderr)?.[1] ?? '').match(/--[a-z-]+ (?:'[^']*'|\S+)/g)].sort(), command.match(/--[a-z-]+ (?:'[^']*'|\S+)/g).sort())
  assert.match(await listed(agents), /--actor-id 'a 1'/)
  assert.doesNotMatch(JSON.stringify(states(home)), /apiKey|api-key/)

  // What goes on in another process is ended there, at once.
  const resuming = agents.run(['resume', ...flags])
  await resuming.line('offer_resumed')
  const ended = await agents.text(['cancel', transferId])
  assert.equal(ended.code, 0, ended.stderr)
  assert.equal(states(home).find(state => state.transferId === transferId).ended.exitCode, 13)
  assert.equal((await resuming.ended).code, 13)
  assert.equal((await agents.text(['wait', transferId])).code, 13)
})

test('a transfer goes on where nothing can be remembered of it', LIMIT, async (t) => {
  const agents = await world(t)
  const file = makeFile(agents.folder, 'x', 1000)
  const { transferId } = await detach(agents, ['x', '--to', 'b'])
  // In the way of the folder of states, for root too.
  fs.renameSync(path.join(agents.home, 'transfers'), path.join(agents.home, 'moved'))
  fs.writeFileSync(path.join(agents.home, 'transfers'), '')
  defer(t, () => fs.rmSync(path.join(agents.home, 'transfers')))
  const b = await node(t, agents.url, 'b')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  const { code, stderr } = await agents.run(['wait', transferId]).ended
  assert.equal(code, 0, stderr)
  assert.equal(sha256(fs.readFileSync(path.join(agents.folder, 'in', 'x'))), file.hash)
})

test('a key that a send in the background was delivered under goes on nowhere', LIMIT, async (t) => {
  const agents = await world(t)
  makeFile(agents.folder, 'x', 10)
  const b = await node(t, agents.url, 'b')
  b.watch({ saveDir: path.join(agents.folder, 'in') })
  const { transferId } = await detach(agents, ['x', '--to', 'b', '--idempotency-key', 'k'])
  assert.equal((await agents.run(['wait', transferId]).ended).code, 0)
  const { code, stdout } = await agents.text(['send', 'x', '--to', 'b', '--idempotency-key', 'k', '--detach'])
  assert.equal(code, 0)
  assert.match(stdout, /^x had arrived at b before\nSHA-256 [0-9a-f]{64}, verified by the recipient$/)
  assert.equal(await listed(agents), `${transferId}  x to b: delivered`)
})
