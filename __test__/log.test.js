'use strict'

// What ATS_P2P_LOG and --verbose turn on, and what it never tells.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, failure, tempFolder } = require('./fixtures/harness')
const { createNode } = require('..')

const LIMIT = { timeout: 60_000 }
const KEY = 'k3y-Th4t-N0b0dy-5h0uld-533'
const CONTENT = 'a line that is nobody else\'s business'

test('the log tells on stderr what happens, and neither keys nor the contents of files', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const file = path.join(folder, 'secret.txt')
  fs.writeFileSync(file, `${CONTENT}\n`.repeat(2000))
  const data = path.join(folder, 'hub')
  const everything = { ATS_P2P_LOG: 'trace,sqlx=trace', ATS_API_KEY: KEY }
  const service = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', data, '--json'], { env: everything })
  const { url } = await service.line('listening')
  const env = { ...everything, ATS_URL: url }
  const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', 'in', '--json'], { env, cwd: folder })
  await listener.line('connected')
  const sent = await cli(t, ['send', file, '--to', 'b', '--actor-id', 'a', '--json'], { env }).ended
  await listener.line('transfer_complete')
  listener.kill('SIGINT')
  const received = await listener.ended
  service.kill('SIGTERM')
  const served = await service.ended

  assert.equal(sent.code, 0, sent.stderr)
  const told = (log, ...patterns) => patterns.forEach(pattern => assert.match(log, pattern))
  told(sent.stderr, /DEBUG ats_p2p::ats::http: request method=POST path="?(orgs\/.*\/)?tasks"? status=201 ms=\d+/,
    /DEBUG ats_p2p::log: offer_sent transfer=.*direction="send" file=secret\.txt size=\d+ peer=b/,
    /DEBUG ats_p2p::log: transfer_complete/)
  told(received.stderr, /event connection open url=http/, /DEBUG hyperdht::connect.*: connected peer=[0-9a-f]{64} path="\w+"/,
    /DEBUG ats_p2p::log: transfer_complete/)
  told(served.stderr, /DEBUG hub::http: request method=POST path="\/(orgs\/.*\/)?tasks\/?" status=201 ms=\d+/)

  const seed = fs.readFileSync(path.join(data, 'relay.seed'))
  const secrets = [KEY, CONTENT, seed.toString('utf8').trim(), seed.toString('hex'), seed.toString('base64'), String([...seed])]
  for (const { stdout, stderr } of [sent, received, served]) {
    for (const line of stdout.split('\n')) assert.doesNotThrow(() => JSON.parse(line), line)
    for (const line of stderr.split('\n').filter(Boolean)) assert.match(line, /^\d{4}-\d\d-\d\dT[\d:.]+Z +[A-Z]+ \w/)
    for (const secret of secrets) assert.ok(!stderr.includes(secret), secret)
  }
})

test('--verbose turns it on for any command, and leaves stdout as it is', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const service = cli(t, ['hub', '--listen', '127.0.0.1:0', '--data', path.join(folder, 'hub'), '--json', '--verbose'])
  const { url } = await service.line('listening')
  const status = verbose => cli(t, ['status', 'no-such-transfer', '--ats-url', url, '--json', ...verbose]).ended
  const [quiet, loud] = [await status([]), await status(['--verbose'])]
  assert.deepEqual([loud.code, loud.stdout], [quiet.code, quiet.stdout])
  assert.match(loud.stderr, /DEBUG ats_p2p::ats::http: request method=GET path=/)
  assert.ok(!quiet.stderr.includes('DEBUG'), quiet.stderr)
  service.kill('SIGTERM')
  const { stdout, stderr } = await service.ended
  assert.equal(stdout.split('\n').length, 1)
  assert.match(stderr, /DEBUG hub::http: request method=GET path="\/.*" status=\d+ ms=\d+/)
})

test('a filter that is none is an error of one line that names the variable', LIMIT, async (t) => {
  const env = { ATS_P2P_LOG: 'ats_p2p=loud' }
  for (const command of [['listen'], ['hub'], ['dht'], ['doctor'], ['status', 'x']]) {
    const { code, stdout, stderr } = await cli(t, command, { env }).ended
    assert.deepEqual([code, stdout], [2, ''], stderr)
    assert.match(stderr, /^ats-p2p: ATS_P2P_LOG is no filter.*\n$/)
  }
})

test('a filter that is none is told to a program too, which may then correct it', LIMIT, async (t) => {
  const before = process.env.ATS_P2P_LOG
  t.after(() => { before === undefined ? delete process.env.ATS_P2P_LOG : process.env.ATS_P2P_LOG = before })
  const options = { home: tempFolder(t), atsUrl: 'http://127.0.0.1:9' }
  process.env.ATS_P2P_LOG = '=,='
  await assert.rejects(createNode(options), failure('INVALID_ARGUMENT', error => assert.match(error.message, /^ATS_P2P_LOG /)))
  process.env.ATS_P2P_LOG = 'off'
  await (await createNode(options)).destroy()
})
