'use strict'

// What the command line understands: options before and behind the command, their other names, misspelt ones.

const assert = require('node:assert/strict')
const http = require('node:http')
const { test } = require('node:test')
const { NAMES, load } = require('../bin/commands')
const { EXITS } = require('../bin/exit-codes')
const { OUTPUT } = require('../bin/flags')
const { commandHelp, usage } = require('../bin/help')
const { asksForJson, findCommand, meant } = require('../bin/arguments')
const { cli, defer } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

/** A service that remembers what it was asked, and knows nothing. */
async function service (t) {
  const asked = []
  const server = http.createServer((request, answer) => {
    asked.push({ url: request.url, headers: request.headers })
    const [status, body] = request.url.includes('?') ? [200, '{"tasks":[],"count":0}'] : [404, '{"error":"not here"}']
    answer.writeHead(status, { 'Content-Type': 'application/json' }).end(body)
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  defer(t, () => { server.closeAllConnections(); server.close() })
  return { url: `http://127.0.0.1:${server.address().port}`, asked }
}

test('service, organization, project and actor go with each request, wherever their options stand', LIMIT, async (t) => {
  const { url, asked } = await service(t)
  const flags = ['-u', url, '--org', 'acme', '--project=p 1', '--actor-type', 'human', '--actor-id', 'ada', '--actor-name', 'Ada L.']
  const id = '0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11'
  for (const args of [['status', id, ...flags], [...flags, 'status', id], ['--url', url, ...flags.slice(2), '-v', 'status', id]]) {
    asked.length = 0
    const { code, stderr } = await cli(t, args).ended
    assert.equal(code, 14, stderr)
    const [{ url: path, headers }] = asked
    assert.match(path, /^\/orgs\/acme\/projects\/p%201\/tasks/)
    assert.deepEqual([headers['x-actor-type'], headers['x-actor-id'], headers['x-actor-name']], ['human', 'ada', 'Ada L.'])
  }
})

test('the output is text or JSON, by either name, and the last one counts', LIMIT, async (t) => {
  const isJson = async (args) => {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.equal(code, 0, stderr)
    return stdout.startsWith('{"event":"identity"')
  }
  for (const args of [['id', '--json'], ['--json', 'id'], ['id', '-f', 'json'], ['id', '-fjson'], ['-f', 'json', 'id'], ['id', '--format=json'], ['id', '-f', 'text', '--json']]) {
    assert.equal(await isJson(args), true, args.join(' '))
  }
  for (const args of [['id'], ['id', '--json', '-f', 'text'], ['--format', 'table', 'id']]) assert.equal(await isJson(args), false, args.join(' '))
})

test('what is misspelt is told with what it may have been meant to be', LIMIT, async (t) => {
  for (const [args, message] of [
    [['sned'], /no command "sned"; did you mean send\?/],
    [['xyzzy'], /no command "xyzzy"\nSee: ats-p2p --help/],
    [['help', 'lisen'], /did you mean listen\?/],
    [['listen', '--colour'], /Unknown option '--colour'\nSee/],
    [['listen', '--chanel', 'x'], /Unknown option '--chanel'; did you mean --channel\?\nSee: ats-p2p listen --help/],
    [['--chanel=x', 'listen'], /did you mean --channel\?/],
    [['id', '--save-dri', 'x'], /Unknown option '--save-dri'\n/],
    [['hub', '--save-dir', 'x'], /Unknown option '--save-dir'; it is an option of listen\n/],
    [['listen', '-z9'], /Unknown option '-z'/],
    [['id', '-f', 'xml'], /--format must be text, json or table, not "xml"/],
    [['id', '--json=yes'], /--json/],
    [['-u'], /which command\?/],
    [['help', 'send', 'listen'], /"listen" is one argument too many/]
  ]) {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.deepEqual({ args, code, stdout }, { args, code: 2, stdout: '' })
    assert.match(stderr, message)
    assert.doesNotMatch(stderr, /\n\s+at |undefined/)
  }
})

test('with --json wrong usage is told on a line too', LIMIT, async (t) => {
  for (const args of [['--json'], ['send', '--json'], ['sned', '-fjson'], ['--format', 'json', 'id', '--colour'], ['hub', '--listen', '--json', 'x', '--json', '--relay', 'foo']]) {
    const { code, stdout, stderr } = await cli(t, args).ended
    assert.equal(code, 2, stderr)
    const { event, message, ...failed } = JSON.parse(stdout)
    assert.deepEqual([event, failed], ['failed', { code: 'ATS_P2P_INVALID_ARGUMENT', retryable: false }])
    assert.ok(stderr.includes(message))
  }
  assert.deepEqual([['--json', '-f', 'text'], ['--', '--json'], ['--to', 'json']].map(asksForJson), [false, false, false])
})

test('no line of the help is wider than a usual terminal, but for examples', () => {
  const texts = [usage(), ...NAMES.map(name => commandHelp(name, load(name)).split('\nExamples:')[0].replace(/^Usage:.*$/m, ''))]
  for (const line of texts.join('\n').split('\n')) assert.ok(line.length <= 80, line)
  assert.match(usage(), /^ {2}completion +Print/m)
})

test('each command says its options, where they come from, and examples', LIMIT, async (t) => {
  for (const args of [['send', '--help'], ['-h', 'send'], ['help', 'send']]) {
    assert.equal(`${(await cli(t, args).ended).stdout}\n`, commandHelp('send', load('send')))
  }
  for (const name of NAMES) {
    const command = load(name)
    const stdout = commandHelp(name, command)
    for (const flag of [...Object.keys(command.flags), ...Object.keys(OUTPUT)]) assert.match(stdout, new RegExp(`--${flag}\\b`), name)
    assert.match(stdout, /\nExamples:\n {2}\S.*:\n {4}\S*.*ats-p2p/, name)
    if (command.flags['ats-url']) assert.match(stdout, /\.ats\/config/)
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80 || line.startsWith('    '), `${name}: ${line}`)
  }
})

test('the tables hold together', () => {
  const tables = NAMES.map(name => [name, { ...load(name).flags, ...OUTPUT }])
  const takesValue = new Map()
  for (const [name, flags] of tables) {
    const letters = Object.values(flags).map(({ short }) => short).filter(Boolean)
    assert.equal(new Set(letters).size, letters.length, `${name} has one letter twice`)
    const names = Object.entries(flags).flatMap(([flag, { aliases = [] }]) => [flag, ...aliases])
    assert.equal(new Set(names).size, names.length, `${name} has one name twice`)
    // Before the command nobody knows whose option it is.
    for (const [flag, { value, short }] of Object.entries(flags)) {
      for (const key of [flag, short].filter(Boolean)) {
        assert.equal(takesValue.get(key) ?? (value !== undefined), value !== undefined, `${key} takes a value here and none there`)
        takesValue.set(key, value !== undefined)
      }
    }
    if (flags['ats-url']) for (const flag of ['org', 'project', 'actor-id']) assert.ok(flags[flag], `${name} has --${flag}`)
  }
})

test('each exit code stands for one thing, and they are told in their order', () => {
  const codes = EXITS.map(([exit]) => exit)
  assert.deepEqual(codes, [...new Set(codes)].sort((one, other) => one - other))
})

test('a command is found behind options and their values', () => {
  for (const [args, name] of [
    [['send', 'status'], 'send'],
    [['-u', 'send', 'status'], 'status'],
    [['-vu', 'send', 'status'], 'status'],
    [['-usend', 'status'], 'status'],
    [['--url=x', 'status'], 'status'],
    [['--to', 'b', '--json', 'send'], 'send'],
    [['--', 'send'], undefined],
    [['--verbose'], undefined]
  ]) assert.equal(findCommand(args).name, name, args.join(' '))
})

test('the nearest name is one that a slip makes, or that begins so', () => {
  const known = ['send', 'listen', 'status', 'save-dir', 'id']
  for (const [word, name] of [['sedn', 'send'], ['LISTEN', 'listen'], ['stat', 'status'], ['savedir', 'save-dir'], ['save', 'save-dir'], ['frobnicate', undefined], ['', undefined]]) {
    assert.equal(meant(word, known), name, word)
  }
})
