'use strict'

// What a user can do wrong, and what can go wrong for one: each has its exit code and one clear sentence, which says what
// it is about and what helps, and never a stack trace.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { test } = require('node:test')
const { AtsHttp } = require('./fixtures/ats-http')
const { cli, defer, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

// Codes that no command ends with for what its user does, and why.
const ELSEWHERE = {
  ABORTED: 'a signal, which has exit codes of its own',
  DESTROYED: 'calls of a node that was destroyed',
  ALREADY_ANSWERED: 'accept and reject of an offer',
  ALREADY_CLAIMED: 'accept of an offer',
  NOT_ALLOWED: 'accept of an offer; listen passes it by',
  TOO_LARGE: 'accept of an offer; listen passes it by',
  INVALID_OFFER: 'tasks of other programs',
  WRONG_CLAIMANT: 'services other than a hub, which lets nobody else claim',
  DISK_FULL: 'the disk of whoever receives',
  NO_ADDON: 'a machine that no addon fits',
  STALLED: 'a peer or a network that fails',
  INTEGRITY: 'a peer that fails',
  PROTOCOL: 'a peer that fails'
}

/** Runs a command to its end: it fails with that code, and says so in one line that has all of `says` in it. */
async function fails (t, args, [exit, code], says, options = {}) {
  // Who goes by the default is warned besides.
  const env = { ATS_ACTOR_ID: 'a', ...options.env }
  const { code: exited, stdout, stderr } = await cli(t, args, { ...options, env }).ended
  const what = `${args.join(' ')}\n${stdout}\n${stderr}`
  assert.equal(exited, exit, what)
  assert.match(stderr, code === null ? /^ats-p2p: .+\n/ : new RegExp(`^ats-p2p: .+ \\(ATS_P2P_${code}\\)\\n$`), what)
  for (const part of says) assert.ok(stderr.includes(part), `${what} lacks ${part}`)
  assert.doesNotMatch(stdout + stderr, /undefined|\bNaN\b|\[object|^\s+at .*[:(]/m, what)
}

/** An answer of the service that says what became of the offer, by HTTP. */
function offered (t, url, args, answer) {
  const command = cli(t, [...args, '--json'], { env: { ATS_URL: url, ATS_ACTOR_ID: 'a' } })
  const answered = command.line('offer_sent').then(answer)
  return Promise.all([command.ended, answered]).then(([ended]) => ended)
}

test('what is wrong with this machine, or with what was typed', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x.bin', 10)
  const none = path.join(folder, 'none')
  const below = path.join(filePath, 'below')
  const env = { ATS_URL: url }
  await inTurn(4, [
    [['send', none, '--to', 'b'], [3, 'FILE_NOT_FOUND'], [none]],
    [['send', '/dev/null', '--to', 'b'], [3, 'NOT_A_FILE'], ['/dev/null', 'device']],
    [['send', folder, '--to', 'b', '--exclude', '{a'], [2, 'INVALID_ARGUMENT'], ['"{a"']],
    [['demo', none], [3, 'FILE_NOT_FOUND'], [none]],
    [['send', filePath, '--to', ''], [2, 'INVALID_ARGUMENT'], ['--to must not be empty']],
    [['send', filePath, '--to', 'b', '--ats-url', 'nowhere'], [2, 'INVALID_ARGUMENT'], ['--ats-url', '"nowhere"']],
    [['send', filePath, '--to', 'b', '--bootstrap', 'nowhere'], [2, 'INVALID_ARGUMENT'], ['each of --bootstrap must be host:port']],
    [['send', filePath, '--to', 'b', '--tunnel', 'nowhere'], [2, 'INVALID_ARGUMENT'], ['--tunnel', 'wss://']],
    [['send', filePath, '--to', 'b', '--identity', none], [4, 'STATE'], [none, 'ats-p2p id export']],
    [['listen', '--save-dir', below], [4, 'NOT_WRITABLE'], [below]],
    [['listen', '--once', '--save-dir', below], [4, 'NOT_WRITABLE'], [below]],
    [['id', 'import', none], [3, 'NOT_READABLE'], [none]],
    [['id', 'import', filePath], [2, 'INVALID_ARGUMENT'], ['ats-p2p id export']],
    [['id', 'export', filePath], [4, 'ALREADY_EXISTS'], [filePath]],
    [['id', 'export', below], [4, 'NOT_WRITABLE'], [below]],
    [['id'], [4, 'STATE'], [below], { env: { ATS_P2P_HOME: below } }],
    [['peers', 'accept', 'nobody'], [2, 'INVALID_ARGUMENT'], ['nobody', 'ats-p2p id']],
    [['verify', 'f7a1c8a2-0000-4000-8000-000000000000'], [17, 'NO_RECEIPT'], ['f7a1c8a2']],
    [['verify', '--receipt', filePath], [17, 'NO_RECEIPT'], [filePath]],
    [['status', 'f7a1c8a2-0000-4000-8000-000000000000'], [14, 'UNKNOWN_TRANSFER'], ['f7a1c8a2', 'p2p-transfer']],
    [['cancel', 'f7a1c8a2-0000-4000-8000-000000000000'], [14, 'UNKNOWN_TRANSFER'], ['f7a1c8a2']],
    [['hub', '--data', below], [4, 'STATE'], [below]],
    [['hub', '--listen', new URL(url).host, '--data', none], [4, 'STATE'], ['--listen']],
    [['hub', '--relay-pairs', 'many'], [2, null], ['--relay-pairs']],
    [['hub', 'invite', '--actor', 'b', '--expires', '99999d', '--data', none], [2, 'INVALID_ARGUMENT'], ['ats-p2p: --expires must be']],
    [['hub', 'key', 'revoke', '9', '--data', none], [2, 'INVALID_ARGUMENT'], ['hub key list']],
    [['join', url], [2, 'INVALID_ARGUMENT'], ['ats-p2p hub invite'], { input: 'rubbish' }],
    [['join', url], [2, 'INVALID_ARGUMENT'], ['not the whole of an invitation'], { input: `atsp2p_invitation_${'0'.repeat(63)}` }],
    [['dht', '--host', '192.0.2.1', '--port', '0'], [6, 'NETWORK'], ['socket']],
    [['status', 'x'], [2, 'INVALID_ARGUMENT'], ['ATS_P2P_LOG'], { env: { ATS_P2P_LOG: '=[=' } }]
  ].map(([args, exit, says, options]) => () => fails(t, args, exit, says, { ...options, env: { ...env, ...options?.env } })))
})

test('what is wrong with the settings of a folder is told, and left out', LIMIT, async (t) => {
  const { url } = await hub(t)
  for (const text of ['{ url', '[]', '{"url": 5, "actor": [], "p2p": "x"}']) {
    const folder = tempFolder(t)
    fs.mkdirSync(path.join(folder, '.ats'))
    fs.writeFileSync(path.join(folder, '.ats', 'config'), text)
    const { code, stderr } = await cli(t, ['status', 'x'], { cwd: folder, env: { ATS_URL: url } }).ended
    assert.equal(code, 14, stderr)
    assert.doesNotMatch(stderr, /undefined|^\s+at /m)
    if (!text.startsWith('{"')) assert.match(stderr, /^ats-p2p: .*\.ats.config is skipped: /)
  }
})

test('a folder that is gone', LIMIT, async (t) => {
  const prefix = ['sh', '-c', 'rmdir "$PWD"; exec "$@"', 'sh']
  for (const args of [['send', 'x', '--to', 'b'], ['listen']]) {
    await fails(t, args, [2, 'INVALID_ARGUMENT'], ['the current folder is gone'], { prefix, cwd: fs.mkdtempSync(path.join(tempFolder(t), 'gone')) })
  }
})

test('what is wrong with the task service', LIMIT, async (t) => {
  const { filePath } = makeFile(tempFolder(t), 'x.bin', 10)
  const answers = [
    [500, '{"error":"out of order"}', 'ATS_ERROR', ['500', 'out of order', 'try again later']],
    [401, '{"error":"who are you?"}', 'ATS_ERROR', ['401', 'ATS_API_KEY']],
    [200, '<!doctype html>', 'ATS_PROTOCOL', ['no task service', '--ats-url']],
    [200, '{}', 'ATS_PROTOCOL', ['does not fit']]
  ]
  await inTurn(4, answers.map(([status, body, code, says]) => async () => {
    const server = http.createServer((request, response) => response.writeHead(status, { 'content-type': body.startsWith('{') ? 'application/json' : 'text/html' }).end(body))
    await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
    defer(t, () => { server.closeAllConnections(); server.close() })
    const url = `http://127.0.0.1:${server.address().port}`
    await fails(t, ['status', 'x'], [5, code], says, { env: { ATS_URL: url } })
  }))
  const nowhere = { env: { ATS_URL: 'http://127.0.0.1:9' } }
  for (const args of [['status', 'x'], ['send', filePath, '--to', 'b'], ['cancel', 'x']]) {
    await fails(t, args, [5, 'ATS_UNREACHABLE'], ['http://127.0.0.1:9', '--ats-url', 'ats-p2p hub'], nowhere)
  }
})

test('what becomes of an offer', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x.bin', 10)
  const b = new AtsHttp(url, 'b')
  const send = (answer, exit, code, says) => async () => {
    const args = ['send', filePath, '--to', 'b', '--timeout', '2000']
    const { code: exited, stdout, stderr } = await offered(t, url, args, answer)
    assert.equal(exited, exit, stderr)
    assert.match(stderr, new RegExp(`^ats-p2p: .+ \\(ATS_P2P_${code}\\)\\n$`))
    for (const part of says) assert.ok(stderr.includes(part), `${stderr} lacks ${part}`)
    assert.doesNotMatch(stdout + stderr, /undefined|^\s+at /m)
    const failed = JSON.parse(stdout.split('\n').at(-1))
    assert.deepEqual([failed.event, failed.code, typeof failed.retryable, failed.transferId.length], ['failed', `ATS_P2P_${code}`, 'boolean', 36])
  }
  await inTurn(4, [
    send(() => {}, 9, 'OFFER_EXPIRED', ['b', 'x.bin', 'is it listening']),
    send(({ taskId }) => b.reject(taskId, 'no thanks'), 8, 'REJECTED', ['b', 'x.bin', 'no thanks']),
    send(({ taskId }) => b.claim(taskId), 6, 'PEER_UNREACHABLE', ['b', 'x.bin', 'still running']),
    send(({ taskId }) => b.claim(taskId).then(() => b.fail(taskId, 'oops')), 12, 'REMOTE_ERROR', ['b', 'x.bin', 'oops']),
    send(({ taskId }) => new AtsHttp(url, 'a').cancel(taskId), 13, 'CANCELLED', ['x.bin'])
  ])
})

test('a peer that is another than before, and a file that is another than offered', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x.bin', 10)
  const env = { ATS_URL: url, ATS_P2P_HOME: path.join(folder, 'home') }
  const send = ['send', filePath, '--to', 'b', '--actor-id', 'a', '--timeout', '20000']
  const first = await node(t, url, 'b')
  first.watch({ saveDir: path.join(folder, 'in') })
  const keyed = [...send, '--idempotency-key', 'k']
  assert.equal((await cli(t, keyed, { env }).ended).code, 0)
  await fails(t, keyed.with(3, 'c'), [21, 'KEY_REUSED'], ['stands for another recipient', 'use another key'], { env })
  await first.destroy()

  const other = await node(t, url, 'b')
  other.watch({ saveDir: path.join(folder, 'in') })
  await fails(t, send, [10, 'IDENTITY'], ['b shows another identity', 'ats-p2p peers accept b'], { env })
  await other.destroy()

  const slow = await node(t, url, 'c')
  slow.on('file', ({ accept }) => {
    fs.appendFileSync(filePath, 'more')
    accept({ saveDir: path.join(folder, 'in') }).catch(() => {})
  })
  slow.watch()
  await fails(t, send.with(3, 'c'), [3, 'SOURCE_CHANGED'], ['x.bin'], { env })
})

test('each code is met by the command line, or it is said where else', () => {
  const declared = fs.readFileSync(path.join(__dirname, '..', 'index.d.ts'), 'utf8')
  const codes = new Set([...declared.matchAll(/'ATS_P2P_([A-Z_]+)'/g)].map(([, code]) => code))
  const here = fs.readFileSync(__filename, 'utf8')
  const met = new Set([...here.matchAll(/(?:\[\d+, |, )'([A-Z_]{5,})'/g)].map(([, code]) => code))
  // Not by root, which may read everything: trouble.test.js steps down for it.
  met.add('NOT_READABLE')
  assert.deepEqual([...codes].filter(code => !met.has(code) && !Object.hasOwn(ELSEWHERE, code)), [])
  assert.deepEqual(Object.keys(ELSEWHERE).filter(code => !codes.has(code)), [])
})

/** Does all of these, so many at a time. */
async function inTurn (places, tasks) {
  const waiting = [...tasks]
  await Promise.all(Array.from({ length: places }, async () => {
    while (waiting.length > 0) await waiting.shift()()
  }))
}
