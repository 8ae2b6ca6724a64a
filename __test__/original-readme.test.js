'use strict'

// What the README of the original package shows, line by line, with this package in its place: its example, its table
// of events, its commands and their options. Keys and values are those that stand there; more may come beside them.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, hub, makeFile, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const ACCEPTED_LIMIT = 100 * 1024 * 1024

/** The keys of an object that the original names, in its order. */
function keys (object, ...named) {
  return named.filter(name => object[name] !== undefined)
}

/** The package as its users find it, by its name. */
function required (t) {
  const folder = tempFolder(t)
  fs.mkdirSync(path.join(folder, 'node_modules'))
  fs.symlinkSync(path.join(__dirname, '..'), path.join(folder, 'node_modules', 'ats-p2p'), 'junction')
  return require(require.resolve('ats-p2p', { paths: [folder] }))
}

test('the example: a node is made, sends, receives by events and into a folder, and is destroyed', LIMIT, async (t) => {
  const { createNode } = required(t)
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath, bytes, hash } = makeFile(folder, 'file.tar.gz', 300_000)
  const home = name => path.join(folder, name)

  const node = await createNode({
    atsUrl: url,
    actorId: 'my-agent',
    allowedPeers: ['other-agent'],
    maxFileSize: ACCEPTED_LIMIT,
    timeout: 120000,
    home: home('my-agent')
  })
  const other = await createNode({ atsUrl: url, actorId: 'other-agent', home: home('other-agent') })
  const heard = { node: [], other: [] }
  for (const [who, emitter] of [['node', node], ['other', other]]) {
    for (const name of ['offer_sent', 'transfer_start', 'transfer_complete', 'transfer_failed']) {
      emitter.on(name, payload => heard[who].push([name, payload]))
    }
  }

  // The receiver that is asked.
  const save = path.join(folder, 'save')
  fs.mkdirSync(save)
  let received
  other.watch({ channel: 'p2p-transfer' })
  other.on('file', async (file) => {
    const { task, fileName, fileSize, fileHash, senderId, accept, reject } = file
    assert.deepEqual([fileName, fileSize, fileHash, senderId], ['file.tar.gz', 300_000, hash, 'my-agent'])
    assert.deepEqual([typeof task, typeof accept, typeof reject], ['object', 'function', 'function'])
    received = accept(path.join(save, 'file.tar.gz'))
    await received
  })

  const shares = []
  const result = await node.send({
    filePath,
    recipientId: 'other-agent',
    channel: 'p2p-transfer',
    onProgress: ({ bytesSent, totalBytes }) => { shares.push(Math.round(bytesSent / totalBytes * 100)) }
  })
  assert.deepEqual(keys(result, 'transferId', 'taskId', 'success'), ['transferId', 'taskId', 'success'])
  assert.equal(result.success, true)
  assert.deepEqual([shares.at(-1), shares.every(share => share >= 0 && share <= 100)], [100, true])
  const { success, filePath: savedAt, hash: savedHash } = await received
  assert.deepEqual({ success, savedAt, savedHash }, { success: true, savedAt: path.join(save, 'file.tar.gz'), savedHash: hash })
  assert.deepEqual(fs.readFileSync(savedAt), bytes)

  // The table of events.
  const { transferId, taskId } = result
  const told = who => heard[who].splice(0).map(([name, payload]) => {
    assert.deepEqual([payload.transferId, payload.taskId], [transferId, taskId], name)
    return [name, ...keys(payload, ...name === 'offer_sent' ? ['fileName', 'recipientId'] : ['filePath', 'reason'])]
  })
  assert.deepEqual(told('node'), [['offer_sent', 'fileName', 'recipientId'], ['transfer_start'], ['transfer_complete']])
  assert.deepEqual(told('other'), [['transfer_start'], ['transfer_complete', 'filePath']])

  // The receiver that saves all, in a folder that is named from the current one.
  const into = path.relative('', path.join(folder, 'incoming'))
  const third = await createNode({ atsUrl: url, actorId: 'third', home: home('third') })
  third.watch({ channel: 'p2p-transfer', saveDir: into })
  await node.send({ filePath, recipientId: 'third' })
  assert.deepEqual(fs.readFileSync(path.join(folder, 'incoming', 'file.tar.gz')), bytes)

  // The two options that refuse: `transfer_failed` says why, and so does the call that failed.
  const failed = new Promise(resolve => node.once('transfer_failed', resolve))
  node.watch()
  const refused = await third.send({ filePath, recipientId: 'my-agent' }).then(() => null, error => error)
  assert.ok(refused instanceof Error)
  assert.match((await failed).reason, /third/)
  const large = path.join(folder, 'large')
  fs.closeSync(fs.openSync(large, 'w'))
  fs.truncateSync(large, ACCEPTED_LIMIT + 1)
  const tooLarge = await other.send({ filePath: large, recipientId: 'my-agent' }).then(() => null, error => error)
  assert.match(tooLarge.message, new RegExp(`${ACCEPTED_LIMIT}`))

  await Promise.all([node.destroy(), other.destroy(), third.destroy()])
})

test('the event error has an Error', LIMIT, async (t) => {
  const { createNode } = required(t)
  const { url } = await hub(t)
  const node = await createNode({ atsUrl: url, home: tempFolder(t) })
  const error = new Promise(resolve => node.once('error', resolve))
  node.once('connected', () => { throw new Error('of a listener') })
  node.watch()
  assert.ok(await error instanceof Error)
  await node.destroy()
})

test('its commands: send, listen with all their options, and status', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { bytes } = makeFile(folder, 'data.csv', 20_000)
  makeFile(folder, 'large.csv', 20_001)
  const at = ['--ats-url', url]
  const run = (...args) => cli(t, args, { cwd: folder })

  const listener = run('listen', '--channel', 'p2p-transfer', '--save-dir', './incoming', '--actor-id', 'agent-b', '--max-size', '20000',
    '--timeout', '120000', ...at, '--json')
  await listener.line('connected')
  const sent = await run('send', './data.csv', '--to', 'agent-b', '--channel', 'p2p-transfer', '--timeout', '120000', ...at, '--json').ended
  assert.equal(sent.code, 0, sent.stderr)
  assert.deepEqual(fs.readFileSync(path.join(folder, 'incoming', 'data.csv')), bytes)
  const lines = sent.stdout.split('\n').map(line => JSON.parse(line))
  const { transferId } = lines.find(({ event }) => event === 'offer_sent')

  const status = await run('status', transferId, ...at).ended
  assert.equal(status.code, 0, status.stderr)
  assert.match(status.stdout, /completed/)
  assert.match(status.stdout, /data\.csv/)

  const refused = await run('send', './large.csv', '--to', 'agent-b', ...at).ended
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /20000/)
  listener.kill('SIGTERM')
  await listener.ended

  // Without --to it is refused, before anything is asked of anybody.
  const nobody = await run('send', './data.csv', ...at).ended
  assert.notEqual(nobody.code, 0)
  assert.match(nobody.stderr, /--to/)
})

test('its defaults: the actor, the channel, the folder and the service', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { bytes } = makeFile(folder, 'data.csv', 100)
  // The one default that leads out of this machine is read, not tried.
  const help = await cli(t, ['send', '--help']).ended
  assert.match(help.stdout, /https:\/\/ats\.difflab\.ai/)
  const listener = cli(t, ['listen', '--ats-url', url, '--json'], { cwd: folder })
  const { actorId, channel } = await listener.line('connected')
  assert.deepEqual({ actorId, channel }, { actorId: 'p2p-node', channel: 'p2p-transfer' })
  const sent = await cli(t, ['send', 'data.csv', '--to', 'p2p-node', '--actor-id', 'a', '--ats-url', url], { cwd: folder }).ended
  assert.equal(sent.code, 0, sent.stderr)
  await listener.line('transfer_complete')
  assert.deepEqual(contents(folder), ['data.csv', 'incoming'])
  assert.deepEqual(fs.readFileSync(path.join(folder, 'incoming', 'data.csv')), bytes)
  listener.kill('SIGTERM')
  await listener.ended
})
