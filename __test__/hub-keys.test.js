'use strict'

// A hub that asks for keys, from the command line: keys, invitations, TLS.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { startHub, hubKeys, join } = require('..')
const { cli, defer, failure, makeFile, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

test('keys are made, listed and revoked, and shown once', LIMIT, async (t) => {
  const data = path.join(tempFolder(t), 'hub')
  const key = (...args) => cli(t, ['hub', 'key', ...args, '--data', data, '--json']).ended
  const empty = await cli(t, ['hub', 'key', 'list', '--data', data]).ended
  assert.deepEqual([empty.code, empty.stdout], [0, 'There is no key yet.'])
  const made = JSON.parse((await key('create', '--actor', 'b', '--expires', '90d')).stdout)
  assert.match(made.key, /^atsp2p_key_[0-9a-f]{64}$/)
  await key('create', '--actor', 'root', '--admin')
  const listed = await key('list')
  const [first, second] = listed.stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual([first.id, first.actorId, first.admin, first.lastUsed, first.revokedAt], [1, 'b', false, null, null])
  assert.ok(Math.abs(Date.parse(first.expiresAt) - Date.now() - 90 * 86_400_000) < 60_000, first.expiresAt)
  assert.deepEqual([second.id, second.actorId, second.admin, second.expiresAt], [2, 'root', true, null])
  assert.doesNotMatch(listed.stdout, new RegExp(made.key.slice(-64)))
  const revoked = JSON.parse((await key('revoke', '1')).stdout)
  assert.ok(revoked.revokedAt)
  const missing = await key('revoke', '9')
  assert.equal(missing.code, 2)
  assert.match(missing.stderr, /there is no key 9/)
})

test('what makes no sense is refused before anything is made', LIMIT, async (t) => {
  const folder = tempFolder(t)
  for (const [args, said] of [
    [['hub', 'key'], /key create, key list or key revoke/],
    [['hub', 'key', 'invite', '--actor', 'b'], /key create, key list or key revoke/],
    [['hub', 'key', 'create'], /for which actor/],
    [['hub', 'invite'], /for which actor/],
    [['hub', 'key', 'create', '--actor', 'b', '--expires', 'soon'], /90d/],
    [['hub', 'key', 'revoke', 'x'], /which key/],
    [['hub', 'key', 'list', 'x'], /too many/],
    [['hub', 'explode'], /explode/],
    [['hub', '--expires', '3d'], /--expires does not go with hub; it is an option of hub key create, hub invite/],
    [['hub', 'key', 'list', '--force'], /it is an option of hub backup/],
    [['hub', 'backup', 'x', '--open'], /--open does not go with hub backup; it is an option of hub alone/],
    [['hub', '--cert', 'x'], /--key-file/],
    [['join'], /which hub/],
    [['join', 'https://h', 'atsp2p_invitation_1'], /never an argument/]
  ]) {
    const { code, stderr } = await cli(t, args, { cwd: folder }).ended
    assert.equal(code, 2, `${args.join(' ')}: ${stderr}`)
    assert.match(stderr, said)
  }
  assert.deepEqual(fs.readdirSync(folder), [])
})

test('an invited agent listens and sends at once, by the key in its settings', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const data = path.join(folder, 'hub')
  // Where a proxy may have sent it, a hub takes no request for one of its own machine.
  const hub = await startHub({ listen: '127.0.0.1:0', data, trustedProxies: ['127.0.0.1'], insecure: true })
  defer(t, () => hub.close())
  const { url } = hub
  const homes = {}
  for (const actor of ['a', 'b']) {
    const invited = await cli(t, ['hub', 'invite', '--actor', actor, '--data', data]).ended
    assert.equal(invited.code, 0, invited.stderr)
    const [invitation] = /atsp2p_invitation_[0-9a-f]{64}/.exec(invited.stdout)
    assert.ok(invited.stdout.endsWith(`npx ats-p2p join ${url}`), invited.stdout)
    homes[actor] = tempFolder(t)
    const file = path.join(homes[actor], '.ats', 'config')
    if (actor === 'b') {
      fs.mkdirSync(path.dirname(file))
      fs.writeFileSync(file, '{"channel": "work", "p2p": {"channel": "p2p-transfer"}}', { mode: 0o644 })
    }
    const env = { HOME: homes[actor], ATS_P2P_HOME: path.join(homes[actor], 'state') }
    const joined = await cli(t, ['join', url, '--json'], { env, input: `${invitation}\n` }).ended
    assert.equal(joined.code, 0, joined.stderr)
    assert.doesNotMatch(joined.stdout + joined.stderr, /atsp2p_(key|invitation)_/)
    const { actorId, notes } = JSON.parse(joined.stdout)
    assert.deepEqual([actorId, notes], [actor, []])
    const settings = JSON.parse(fs.readFileSync(file, 'utf8'))
    assert.deepEqual([settings.url, settings.actor.id], [url, actor])
    assert.match(settings.apiKey, /^atsp2p_key_/)
    assert.equal(fs.statSync(file).mode & 0o777, 0o600)
    if (actor === 'b') assert.deepEqual([settings.channel, settings.p2p], ['work', { channel: 'p2p-transfer' }])
    const again = await cli(t, ['join', url], { env, input: invitation }).ended
    assert.notEqual(again.code, 0)
    assert.match(again.stderr, /does not take this invitation .*was taken or is over/)
    assert.doesNotMatch(again.stderr, /API key/)
  }
  const run = (actor, ...args) => cli(t, args, { env: { HOME: homes[actor], ATS_P2P_HOME: path.join(homes[actor], 'state') }, cwd: folder })
  const listener = run('b', 'listen', '--save-dir', 'in', '--json')
  assert.equal((await listener.line('connected')).actorId, 'b')
  const file = makeFile(folder, 'x', 100_000)
  const sent = await run('a', 'send', file.filePath, '--to', 'b').ended
  assert.equal(sent.code, 0, sent.stderr)
  assert.deepEqual(fs.readFileSync(path.join(folder, 'in', 'x')), file.bytes)

  // Under another's name, and without a key, nothing goes.
  const borrowed = await run('a', 'status', 'x', '--actor-id', 'b').ended
  assert.match(borrowed.stderr, /403: the key is that of the actor a/)
  const nobody = await cli(t, ['status', 'x', '--ats-url', url]).ended
  assert.match(nobody.stderr, /401: this hub asks for a key/)
  // A key that is revoked ends what runs with it.
  const [, { id }] = await hubKeys.list({ data })
  await hubKeys.revoke(id, { data })
  await listener.line('disconnected')
  const { code, stderr } = await listener.ended
  assert.equal(code, 5)
  assert.match(stderr, /401: this key is unknown here, was revoked or has expired/)
  assert.doesNotMatch(stderr, /atsp2p_key_/)
  assert.match((await run('b', 'status', 'x').ended).stderr, /401: .*revoked/)
})

test('other settings of the user are replaced where that was asked for', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const data = path.join(folder, 'hub')
  const hub = await startHub({ listen: '127.0.0.1:0', data })
  defer(t, () => hub.close())
  const file = path.join(folder, '.ats', 'config')
  fs.mkdirSync(path.dirname(file))
  const before = '{"url": "https://elsewhere.example", "apiKey": "hush-hush", "actor": {"id": "me", "name": "Me", "type": "human"}}'
  fs.writeFileSync(file, before)
  const { invitation } = await hubKeys.invite('b', { data })
  const env = { HOME: folder }
  const refused = await cli(t, ['join', hub.url], { env, input: invitation }).ended
  assert.equal(refused.code, 2)
  assert.match(refused.stderr, /has url https:\/\/elsewhere\.example, actor\.id me, a key already; --replace/)
  assert.doesNotMatch(refused.stderr, /hush/)
  assert.equal(fs.readFileSync(file, 'utf8'), before)
  // The invitation was not spent on it.
  const joined = await cli(t, ['join', hub.url, '--replace'], { env: { ...env, ATS_ACTOR_ID: 'other' }, input: invitation }).ended
  assert.equal(joined.code, 0, joined.stderr)
  assert.match(joined.stdout, /But ATS_ACTOR_ID names another actorId/)
  const { url, actor } = JSON.parse(fs.readFileSync(file, 'utf8'))
  assert.deepEqual([url, actor], [hub.url, { id: 'b', type: 'human' }])
})

test('a hub with a certificate is joined and used over TLS', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const [cert, key] = ['cert.pem', 'key.pem'].map(name => path.join(folder, name))
  const made = spawnSync('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-keyout', key, '-out', cert,
    '-days', '1', '-subj', '/CN=hub', '-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE'
  ])
  if (made.error) return t.skip('openssl is not installed')
  assert.equal(made.status, 0, String(made.stderr))
  const data = path.join(folder, 'hub')
  const service = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', data, '--cert', cert, '--key-file', key, '--json'])
  const { url } = await service.line('listening')
  assert.match(url, /^https:\/\/127\.0\.0\.1:\d+$/)
  const { invitation, url: kept } = await hubKeys.invite('b', { data })
  assert.equal(kept, url)
  const env = { HOME: folder }
  const untrusting = await cli(t, ['join', url], { env, input: invitation }).ended
  assert.match(untrusting.stderr, /certificate/)
  const joined = await cli(t, ['join', url, '--ca', 'cert.pem'], { env, cwd: folder, input: invitation }).ended
  assert.equal(joined.code, 0, joined.stderr)
  const doctor = await cli(t, ['doctor', '--json'], { env }).ended
  const checks = doctor.stdout.split('\n').map(line => JSON.parse(line))
  assert.ok(checks.some(({ check, status }) => check === 'events' && status === 'ok'), doctor.stdout)
})

test('join and the calls on keys check what they are given', async (t) => {
  await assert.rejects(join('ftp://x', 'y'), failure('INVALID_ARGUMENT'))
  await assert.rejects(join('http://127.0.0.1:1', ''), failure('INVALID_ARGUMENT'))
  await assert.rejects(join('http://hub.example', 'y', { ca: 5 }), failure('INVALID_ARGUMENT'))
  await assert.rejects(join('http://hub.example', 'y'), failure('INVALID_ARGUMENT', ({ message }) => assert.match(message, /plain HTTP/)))
  const data = path.join(tempFolder(t), 'hub')
  await assert.rejects(hubKeys.create('', { data }), failure('INVALID_ARGUMENT'))
  await assert.rejects(hubKeys.create('b', { data, expiresIn: -1 }), failure('INVALID_ARGUMENT'))
  await assert.rejects(hubKeys.revoke('1', { data }), failure('INVALID_ARGUMENT'))
  assert.equal(await hubKeys.revoke(1, { data }), null)
})
