'use strict'

// Who a user's nodes are to others, and whom they know: the functions and the commands.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { createNode, doctor, identity, peers, verify } = require('..')
const { cli, contents, defer, failure, hub, makeFile, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const ATS_URL = 'http://127.0.0.1:8787'
const [ONE, OTHER] = ['01'.repeat(32), '02'.repeat(32)]

/** Options of a user of its own. */
function user (t, options = {}) {
  return { home: path.join(tempFolder(t), 'home'), atsUrl: ATS_URL, actorId: 'a', ...options }
}

test('an identity belongs to an actor in a project, and no node makes a seed before it needs one', LIMIT, async (t) => {
  const a = user(t)
  await (await createNode(a)).destroy()
  assert.deepEqual(contents(a.home), [])
  const shown = await identity.show(a)
  assert.match(shown.identity, /^[0-9a-f]{64}$/)
  const { actorId, atsUrl, organization, project, seed } = shown
  assert.deepEqual({ actorId, atsUrl, organization, project }, { actorId: 'a', atsUrl: 'http://localhost:8787', organization: 'default', project: 'main' })
  assert.equal(seed, path.join(a.home, 'seed'))
  if (process.platform !== 'win32') assert.equal(fs.statSync(seed).mode & 0o777, 0o600)
  assert.deepEqual(await identity.show({ ...a, atsUrl: 'http://localhost:8787/' }), shown)
  for (const other of [{ actorId: 'b' }, { project: 'other' }, { atsUrl: 'http://127.0.0.1:8788' }, user(t)]) {
    assert.notEqual((await identity.show({ ...a, ...other })).identity, shown.identity)
  }
})

test('a seed goes to another machine, and replaces another one only where that is said', LIMIT, async (t) => {
  const [here, there] = [user(t), user(t)]
  const seed = await identity.export(here)
  const shown = await identity.import(seed, there)
  assert.equal(shown.identity, (await identity.show(here)).identity)
  assert.equal(shown.kept, undefined)
  const another = await identity.export(user(t))
  await assert.rejects(identity.import(another, there), failure('ALREADY_EXISTS'))
  await assert.rejects(identity.create(there), failure('ALREADY_EXISTS'))
  const { kept } = await identity.import(another, { ...there, replace: true })
  assert.equal(fs.readFileSync(kept, 'utf8'), seed)
  const made = await identity.create({ ...there, replace: true })
  assert.notEqual(made.identity, shown.identity)
  await assert.rejects(identity.import(seed.replace(/[0-9a-f]{8}\n$/, '00000000\n'), there), failure('INVALID_ARGUMENT'))
})

test('a seed that was rotated needs no force to follow to another machine', LIMIT, async (t) => {
  const [here, there] = [user(t), user(t)]
  const before = await identity.import(await identity.export(here), there)
  const rotated = await identity.rotate(here)
  assert.notEqual(rotated.identity, before.identity)
  const followed = await identity.import(await identity.export(here), there)
  assert.deepEqual([followed.identity, followed.kept], [rotated.identity, undefined])
})

test('peers accept a seed that was rotated by the word of the old one, and no new one', LIMIT, async (t) => {
  const { url } = await hub(t)
  const [a, b] = ['a', 'b'].map(actorId => user(t, { atsUrl: url, actorId, timeout: 30_000 }))
  const [sender, receiver] = [await createNode(a), await createNode(b)]
  for (const node of [sender, receiver]) defer(t, () => node.destroy())
  receiver.watch({ saveDir: tempFolder(t) })
  const { filePath } = makeFile(tempFolder(t), 'x', 1000)
  const send = () => sender.send({ filePath, recipientId: 'b' })
  const first = await send()
  const [before, rotated] = [await identity.show(b), await identity.rotate(b)]
  assert.deepEqual((await peers.list(a)).map(({ identity }) => identity), [before.identity])
  await identity.rotate(a)
  await send()
  const [known] = await peers.list(a)
  assert.equal(known.identity, rotated.identity)
  assert.deepEqual(known.former.map(({ identity }) => identity), [before.identity])
  assert.equal((await peers.list(b))[0].identity, (await identity.show(a)).identity)
  for (const agent of [a, b]) assert.equal((await verify({ ...agent, id: first.transferId })).receiver.identity, before.identity)

  const made = await identity.create({ ...b, replace: true })
  await assert.rejects(send(), failure('IDENTITY', ({ message }) => assert.match(message, new RegExp(`peers accept b ${made.identity}`))))
  await peers.accept('b', undefined, a)
  await send()
})

test('a seed that is gone is made anew with a warning where its identities were known', LIMIT, async (t) => {
  const { url } = await hub(t)
  const [a, b] = [user(t, { atsUrl: url }), user(t, { atsUrl: url, actorId: 'b' })]
  const { filePath } = makeFile(tempFolder(t), 'x', 10)
  const receiver = await createNode(b)
  defer(t, () => receiver.destroy())
  receiver.watch({ saveDir: path.join(tempFolder(t), 'in') })
  const sends = async () => {
    const sender = await createNode({ ...a, timeout: 2000 })
    try {
      await sender.send({ filePath, recipientId: 'b' })
    } finally {
      await sender.destroy()
    }
  }
  const warnings = []
  const warned = warning => warnings.push(warning)
  process.on('warning', warned)
  t.after(() => process.off('warning', warned))
  await sends()
  const { seed } = await identity.show(a)
  const kept = fs.readFileSync(seed, 'utf8')
  assert.deepEqual(warnings, [])
  fs.rmSync(seed)
  await assert.rejects(sends(), failure('REJECTED'))
  assert.deepEqual(warnings.map(({ name }) => name), ['AtsP2pWarning'])
  assert.match(warnings[0].message, /seed before was gone.*ats-p2p id import/s)
  const { checks } = await doctor(a)
  const found = checks.find(({ check }) => check === 'identity')
  assert.deepEqual([found.status, /was somebody else before/.test(found.found)], ['warning', true])
  await identity.import(kept, { ...a, replace: true })
  await sends()
  assert.equal(warnings.length, 1)
})

test('a node has the identity of the seed that it is given, or none', LIMIT, async (t) => {
  const [here, there] = [user(t), user(t)]
  const { identity: key, seed } = await identity.show(here)
  assert.equal((await identity.show({ ...there, identity: seed })).identity, key)
  const none = await identity.show({ ...there, identity: false })
  assert.deepEqual([none.identity, none.seed], [null, null])
  assert.deepEqual(contents(there.home), [])
  await assert.rejects(identity.show({ ...there, identity: path.join(there.home, 'none') }), failure('STATE'))
  await assert.rejects(identity.export({ ...there, identity: false }), failure('INVALID_ARGUMENT'))
  await assert.rejects(createNode({ identity: 7 }), failure('INVALID_ARGUMENT'))
})

test('a seed that is damaged, or that others can read, is an error and stays as it is', LIMIT, async (t) => {
  const a = user(t)
  const { seed } = await identity.show(a)
  const whole = fs.readFileSync(seed, 'utf8')
  fs.writeFileSync(seed, whole.slice(0, 40))
  await assert.rejects(identity.show(a), failure('STATE', ({ message }) => assert.match(message, /damaged/)))
  assert.equal(fs.readFileSync(seed, 'utf8'), whole.slice(0, 40))
  fs.writeFileSync(seed, whole)
  if (process.platform === 'win32') return
  fs.chmodSync(seed, 0o644)
  await assert.rejects(identity.show(a), failure('STATE', ({ message }) => assert.match(message, /chmod 600/)))
})

test('peers are accepted and forgotten by hand, each in its own project', LIMIT, async (t) => {
  const a = user(t)
  assert.deepEqual(await peers.list(a), [])
  const accepted = await peers.accept('b', ONE, a)
  assert.deepEqual([accepted.actorId, accepted.identity, accepted.accepted, accepted.refused], ['b', ONE, true, []])
  assert.deepEqual(await peers.list({ ...a, atsUrl: 'http://localhost:8787' }), [accepted])
  assert.deepEqual(await peers.list({ ...a, project: 'other' }), [])
  assert.equal((await peers.accept('b', OTHER, a)).identity, OTHER)
  assert.equal((await peers.forget('b', a)).identity, OTHER)
  assert.equal(await peers.forget('b', a), null)
  await assert.rejects(peers.accept('b', undefined, a), failure('INVALID_ARGUMENT'))
  await assert.rejects(peers.accept('b', 'nonsense', a), failure('INVALID_ARGUMENT'))
  await assert.rejects(peers.accept('p2p-node', ONE, a), failure('INVALID_ARGUMENT'))
  fs.writeFileSync(path.join(a.home, 'known_peers.json'), '{')
  await assert.rejects(peers.list(a), failure('STATE', ({ message }) => assert.match(message, /known_peers\.json/)))
})

test('ats-p2p id shows, moves and renews an identity, and the secret is on no command line', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const on = machine => ({ cwd: folder, env: { ATS_P2P_HOME: path.join(folder, machine), ATS_URL, ATS_ACTOR_ID: 'a' } })
  const shown = await cli(t, ['id'], on('here')).ended
  assert.equal(shown.code, 0, shown.stderr)
  assert.match(shown.stdout, /^Identity: +[0-9a-f]{64}$/m)
  assert.match(shown.stdout, /^Service: +http:\/\/localhost:8787 /m)
  const key = async machine => JSON.parse((await cli(t, ['id', 'show', '--json'], on(machine)).ended).stdout).identity
  const here = await key('here')

  assert.equal((await cli(t, ['id', 'export', 'moved'], on('here')).ended).code, 0)
  if (process.platform !== 'win32') assert.equal(fs.statSync(path.join(folder, 'moved')).mode & 0o777, 0o600)
  const again = await cli(t, ['id', 'export', 'moved'], on('here')).ended
  assert.equal(again.code, 4, again.stderr)
  assert.equal((await cli(t, ['id', 'export'], on('here')).ended).stdout, fs.readFileSync(path.join(folder, 'moved'), 'utf8').trimEnd())
  const imported = await cli(t, ['id', 'import', 'moved', '--json'], on('there')).ended
  assert.equal(JSON.parse(imported.stdout).identity, here)
  assert.equal(await key('there'), here)

  const refused = await cli(t, ['id', 'new'], on('there')).ended
  assert.equal(refused.code, 4)
  assert.match(refused.stderr, /--force/)
  const made = await cli(t, ['id', 'new', '--force', '--json'], on('there')).ended
  assert.equal(made.code, 0, made.stderr)
  assert.notEqual(JSON.parse(made.stdout).identity, here)
  assert.equal((await cli(t, ['id', 'import', 'moved'], on('there')).ended).code, 4)
  assert.equal((await cli(t, ['id', 'import', 'missing'], on('there')).ended).code, 3)
})

test('ats-p2p peers lists, accepts and forgets', LIMIT, async (t) => {
  const on = { env: { ATS_P2P_HOME: path.join(tempFolder(t), 'home'), ATS_URL } }
  const run = async (...args) => cli(t, ['peers', ...args], on).ended
  assert.match((await run()).stdout, /No peer is known/)
  const accepted = await run('accept', 'b\u001b[31m', ONE)
  assert.equal(accepted.code, 0, accepted.stderr)
  assert.ok(!accepted.stdout.includes('\u001b'))
  assert.equal((await run('accept', 'b')).code, 2)
  assert.equal((await run('accept', 'b', OTHER)).code, 0)
  assert.match((await run('list')).stdout, new RegExp(`^b\n  ${OTHER}, accepted since `, 'm'))
  assert.deepEqual((await run('--json')).stdout.split('\n').map(line => JSON.parse(line).identity), [OTHER, ONE])
  assert.match((await run('forget', 'b')).stdout, /b is forgotten/)
  assert.match((await run('forget', 'b')).stdout, /was not known/)
})

test('what id and peers can not be asked is exit code 2', LIMIT, async (t) => {
  for (const [args, message] of [
    [['id', 'sell'], /nothing called "sell"/],
    [['id', 'show', 'x'], /"x" is one argument too many/],
    [['id', 'import'], /from which file\?/],
    [['id', 'export', 'x', 'y'], /"y" is one argument too many/],
    [['peers', 'like'], /nothing called "like"/],
    [['peers', 'list', 'b'], /"b" is one argument too many/],
    [['peers', 'accept'], /which actor\?/],
    [['peers', 'accept', 'b', 'xyz'], /64 hex digits/],
    [['peers', 'forget', 'b', 'c'], /"c" is one argument too many/]
  ]) {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.deepEqual({ args, code, stdout }, { args, code: 2, stdout: '' })
    assert.match(stderr, message)
  }
})
