'use strict'

// What a node would use and who it is, as the commands tell it: config, whoami, health, and the warnings.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { test } = require('node:test')
const { health, hubKeys, settings, whoami } = require('..')
const { cli, defer, failure, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A folder with a project in it, and a home, whose settings files hold this. */
function place (t, { project, user }) {
  const folder = tempFolder(t)
  const [work, home] = ['work', 'home'].map(name => path.join(folder, name))
  for (const [dir, content] of [[work, project], [home, user]]) {
    fs.mkdirSync(path.join(dir, '.ats'), { recursive: true })
    if (content !== undefined) fs.writeFileSync(path.join(dir, '.ats', 'config'), typeof content === 'string' ? content : JSON.stringify(content))
  }
  const env = { HOME: home, ATS_P2P_HOME: path.join(home, 'state') }
  return { work, home, run: (args, more = {}) => cli(t, args, { cwd: work, env: { ...env, ...more } }).ended }
}

/** A service that answers with what `answers` has for a path, `[status, body]`. */
async function service (t, answers) {
  const server = http.createServer((request, answer) => {
    const [status, body] = answers[request.url.split('?')[0]] ?? [404, { error: 'not here' }]
    answer.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body))
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  defer(t, () => { server.closeAllConnections(); server.close() })
  return `http://127.0.0.1:${server.address().port}`
}

test('config shows each setting with who said so, and no secret', LIMIT, async (t) => {
  const { work, home, run } = place(t, {
    project: { organization: 'acme', p2p: { ca: '/evil.pem' } },
    user: { organization: 'other', actor: { id: 'ada', name: 'Ada' }, apiKey: 'hush-user' }
  })
  const env = {
    ATS_PROJECT: 'tools',
    ATS_P2P_DATABASE: 'postgres://hub:hush@db.example:5432/tasks?password=hush',
    HTTPS_PROXY: 'http://me:hush@proxy.example:3128',
    ATS_P2P_TUNNEL: 'none',
    ATS_P2P_MAX_RATE: '1.5M',
    ATS_P2P_BOOTSTRAP: '192.0.2.1:1, 192.0.2.2:2'
  }
  const flags = ['--url', 'http://127.0.0.1:1', '--timeout', '5000', '--max-size', '10', '--allow', 'b', '--no-identity', '--ca', 'mine.pem', '--insecure']
  const { code, stdout, stderr } = await run(['config', '--json', ...flags], env)
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  assert.doesNotMatch(stdout, /hush/)
  const { event, settings, warnings } = JSON.parse(stdout)
  assert.deepEqual([event, warnings], ['config', []])
  const found = Object.fromEntries(settings.map(({ name, value, source, from }) => [name, [value, source, from]]))
  const [ofProject, ofUser] = [work, home].map(dir => path.join(dir, '.ats', 'config'))
  for (const [name, expected] of Object.entries({
    atsUrl: ['http://127.0.0.1:1', 'option', null],
    organization: ['acme', 'project', ofProject],
    project: ['tools', 'environment', 'ATS_PROJECT'],
    channel: ['p2p-transfer', 'default', null],
    actorId: ['ada', 'user', ofUser],
    actorName: ['Ada', 'user', ofUser],
    actorType: ['agent', 'default', null],
    apiKey: ['(secret)', 'user', ofUser],
    ca: [path.join(work, 'mine.pem'), 'option', null],
    insecure: [true, 'option', null],
    home: [path.join(home, 'state'), 'environment', 'ATS_P2P_HOME'],
    identity: [false, 'option', null],
    bootstrap: [['192.0.2.1:1', '192.0.2.2:2'], 'environment', 'ATS_P2P_BOOTSTRAP'],
    tunnel: [false, 'environment', 'ATS_P2P_TUNNEL'],
    relayThrough: ['hub', 'default', null],
    allowedPeers: [['b'], 'option', null],
    timeout: [5000, 'option', null],
    maxFileSize: [10, 'option', null],
    maxRate: [1_572_864, 'environment', 'ATS_P2P_MAX_RATE'],
    maxConcurrent: [16, 'default', null],
    database: ['postgres://db.example:5432/tasks', 'environment', 'ATS_P2P_DATABASE'],
    httpsProxy: ['http://(secret)@proxy.example:3128', 'environment', 'HTTPS_PROXY']
  })) assert.deepEqual(found[name], expected, name)

  const text = (await run(['config', ...flags], env)).stdout
  assert.doesNotMatch(text, /hush/)
  for (const [name, value, origin] of [
    ['atsUrl', 'http://127.0.0.1:1', '--ats-url'], ['maxFileSize', '10', '--max-size'], ['identity', 'false', '--no-identity'],
    ['allowedPeers', 'b', '--allow'], ['apiKey', '\\(secret\\)', ofUser], ['project', 'tools', 'ATS_PROJECT'], ['channel', 'p2p-transfer', 'default']
  ]) assert.match(text, new RegExp(`^${name} +${value} +${origin}$`, 'm'))
})

test('each option of a node is among the settings', LIMIT, async (t) => {
  const { NODE_OPTIONS } = require('../lib/options')
  const { callback } = require('../lib/checks')
  const names = (await settings({ home: tempFolder(t) })).settings.map(({ name }) => name)
  // What is done once, and what is a function, is no setting.
  const lasting = Object.entries(NODE_OPTIONS).filter(([name, check]) => name !== 'resume' && check !== callback)
  for (const [name] of lasting) assert.ok(names.includes(name), name)
})

test('config tells of files that cannot be read as settings, and of what makes no request possible', LIMIT, async (t) => {
  const { work, run } = place(t, { project: '{"url": "http://h"', user: { actor: { id: ['x'] } } })
  const { code, stdout, stderr } = await run(['config'])
  assert.equal(code, 0)
  assert.match(stdout, /^atsUrl +https:\/\/ats\.difflab\.ai +default$/m)
  assert.match(stderr, new RegExp(`^ats-p2p: warning: ${path.join(work, '.ats', 'config')} is skipped: it is not JSON`, 'm'))
  assert.match(stderr, /actor\.id is skipped: it is no text/)
  assert.equal(JSON.parse((await run(['config', '--json'])).stdout).warnings.length, 2)

  const unusable = await run(['config'], { ATS_URL: 'nowhere' })
  assert.equal(unusable.code, 2)
  assert.match(unusable.stdout, /^atsUrl +nowhere +ATS_URL$/m)
  assert.match(unusable.stderr, /nowhere/)
})

test('a key that is left out is told', LIMIT, async (t) => {
  const { run } = place(t, { project: { url: 'http://127.0.0.1:1' }, user: { apiKey: 'hush-user' } })
  const { stdout, stderr } = await run(['config'])
  assert.match(stdout, /^apiKey +- +.*config$/m)
  assert.match(stderr, /warning: the API key is left out/)
})

test('health says what a hub offers and how long it took', LIMIT, async (t) => {
  const { url, bootstrap, relay } = await hub(t)
  const { code, stdout, stderr } = await cli(t, ['health', '--json', '-u', url]).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const { ms, version, ...found } = JSON.parse(stdout)
  assert.deepEqual(found, { event: 'health', atsUrl: url, status: 'ok', p2p: { bootstrap: [...bootstrap], relay, tunnel: true } })
  assert.ok(ms > 0)
  assert.match(version, /^\d+\.\d+\.\d+/)
  const text = (await cli(t, ['health', '-u', url]).ended).stdout
  assert.match(text, /^Status: +ok$/m)
  assert.match(text, /^Tunnel: +here$/m)
})

test('health is exit code 5 where the service is not reached, not well, or none', LIMIT, async (t) => {
  const ill = await service(t, { '/health': [503, { error: 'no database' }] })
  const plain = await service(t, { '/health': [200, { status: 'ok', timestamp: '2026-01-01T00:00:00Z' }] })
  const none = await service(t, {})
  for (const [url, code, pattern] of [['http://127.0.0.1:9', 5, /ATS_P2P_ATS_UNREACHABLE/], [ill, 5, /no database/], [none, 5, /ATS_P2P_ATS_ERROR/]]) {
    const result = await cli(t, ['health', '-u', url]).ended
    assert.equal(result.code, code, result.stderr)
    assert.match(result.stderr, pattern)
  }
  const { code, stdout } = await cli(t, ['health', '-u', plain]).ended
  assert.equal(code, 0)
  assert.match(stdout, /a task service alone/)
  await assert.rejects(health({ atsUrl: 'http://127.0.0.1:9', home: tempFolder(t) }), failure('ATS_UNREACHABLE'))
})

test('whoami says who this is and who said so; no service is asked without a key', LIMIT, async (t) => {
  const { home, run } = place(t, { project: {}, user: { actor: { id: 'ada', name: 'Ada' } } })
  const { code, stdout } = await run(['whoami', '-u', 'http://127.0.0.1:9', '--org', 'acme'])
  assert.equal(code, 0)
  assert.match(stdout, new RegExp(`^Actor: +ada \\(${path.join(home, '.ats', 'config')}\\)$`, 'm'))
  assert.match(stdout, /^Organization: +acme \(as given\)$/m)
  assert.match(stdout, /^Project: +main \(default\)$/m)
  assert.match(stdout, /^Identity: +[0-9a-f]{64}$/m)
  assert.match(stdout, /^Key: +none$/m)
  const json = JSON.parse((await run(['whoami', '--json', '--no-identity'])).stdout)
  assert.deepEqual([json.actorId, json.identity, json.key, json.sources.actorId.source], ['ada', null, null, 'user'])
})

test('whoami asks the service whose a key is', LIMIT, async (t) => {
  const data = path.join(tempFolder(t), 'hub')
  const { url } = await hub(t, { data })
  const { key } = await hubKeys.create('ada', { data })
  const run = (actor, apiKey, at = url) => cli(t, ['whoami', '--json', '-u', at, '--actor-id', actor], { env: { ATS_API_KEY: apiKey } }).ended
  const own = await run('ada', key)
  assert.equal(own.code, 0, own.stderr)
  assert.deepEqual(JSON.parse(own.stdout).key, { accepted: true, actorId: 'ada', reason: null })
  const other = await run('eve', key)
  assert.equal(other.code, 10)
  assert.match(other.stderr, /the key is that of the actor ada/)
  assert.equal(JSON.parse(other.stdout).key.accepted, false)
  assert.doesNotMatch(other.stdout + other.stderr, new RegExp(key))

  const elsewhere = await service(t, { '/auth/me': [200, { identity: { actor_id: 'ada', type: 'agent' } }] })
  assert.equal((await run('ada', 'k'.repeat(20), elsewhere)).code, 0)
  const wrong = await run('eve', 'k'.repeat(20), elsewhere)
  assert.equal(wrong.code, 10)
  assert.match(wrong.stderr, /the key is that of ada, not of eve/)
  const silent = await run('ada', 'k'.repeat(20), await service(t, {}))
  assert.equal(silent.code, 0)
  assert.deepEqual(JSON.parse(silent.stdout).key, { accepted: null, actorId: null, reason: null })
  const away = await run('ada', 'k'.repeat(20), 'http://127.0.0.1:9')
  assert.equal(away.code, 0)
  assert.equal(JSON.parse(away.stdout).key.code, 'ATS_P2P_ATS_UNREACHABLE')
  assert.equal((await whoami({ atsUrl: url, actorId: 'ada', apiKey: key, home: tempFolder(t) })).key.accepted, true)
})

test('sending and listening as everybody warns once, in the way of the output', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const b = await node(t, url, 'b')
  b.on('file', ({ reject }) => reject('no'))
  b.watch()
  const send = (args, env = {}) => cli(t, ['send', filePath, '--to', 'b', '-u', url, ...args], { env }).ended
  const text = await send([])
  assert.equal(text.code, 8)
  assert.equal(text.stderr.match(/^ats-p2p: warning: this node goes by p2p-node/gm)?.length, 1, text.stderr)
  const json = await send(['--json'])
  assert.deepEqual([json.code, json.stderr.includes('warning')], [8, false])
  const [first] = json.stdout.split('\n').map(line => JSON.parse(line))
  assert.deepEqual([first.event, first.code], ['warning', 'ATS_P2P_DEFAULT_ACTOR'])
  for (const [args, env] of [[['--actor-id', 'p2p-node'], {}], [[], { ATS_ACTOR_ID: 'a' }], [['--quiet'], {}], [['--quiet', '--json'], {}]]) {
    const { stdout, stderr } = await send(args, env)
    assert.doesNotMatch(stdout + stderr, /p2p-node, as|warning/, `${args}`)
  }
  const listener = cli(t, ['listen', '--json', '-u', url], { cwd: folder })
  assert.equal((await listener.line('warning')).code, 'ATS_P2P_DEFAULT_ACTOR')
  listener.kill('SIGINT')
  assert.equal((await listener.ended).code, 130)
})

test('what the library warns of is said in the way of the command line', LIMIT, async (t) => {
  const { run } = place(t, { project: 'no JSON', user: {} })
  const status = args => run(['status', 'x', '-u', 'http://127.0.0.1:9', ...args])
  const { code, stderr } = await status([])
  assert.equal(code, 5)
  assert.match(stderr, /^ats-p2p: warning: .*config is skipped/m)
  assert.doesNotMatch(stderr, /\(node:|AtsP2pWarning/)
  for (const command of ['whoami', 'health', 'id', 'peers']) {
    const { stderr } = await run([command, ...(command === 'peers' ? [] : ['-u', 'http://127.0.0.1:9'])])
    assert.equal(stderr.match(/^ats-p2p: warning: .*config is skipped/gm)?.length, 1, command)
  }
  const json = await status(['--json'])
  assert.match(json.stdout, /^\{"event":"warning",.*is skipped/m)
})
