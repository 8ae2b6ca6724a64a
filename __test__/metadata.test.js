'use strict'

// What a sender says of a file besides: who is shown it, where, and what it may be.

const assert = require('node:assert/strict')
const path = require('node:path')
const { test } = require('node:test')
const { cli, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

test('what is said of a file is shown where it is decided on, and in the events of both sides', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a')
  const asked = []
  const b = await node(t, url, 'b', { shouldAccept: ({ metadata }) => { asked.push(metadata); return true } })
  b.watch()
  const told = []
  for (const [name, from] of Object.entries({ a, b })) {
    for (const event of ['offer_sent', 'transfer_start', 'transfer_complete']) from.on(event, ({ metadata }) => told.push([name, event, metadata]))
  }
  // Read as a name like any other, and as JavaScript has numbers.
  const text = '{"__proto__":{"x":1},"n":[9007199254740993,-0.5,1e300],"\\u202e":"\\u0000\u{1b}[31m","deep":[[[{}]]]}'.replace('\u{1b}', '\\u001b')
  const said = JSON.parse(text)
  for (const metadata of [said, 'text', 0, false, [], undefined, null]) {
    const offered = nextOffer(b)
    const sent = a.send({ filePath, recipientId: 'b', metadata })
    const offer = await offered
    assert.deepEqual(offer.metadata, metadata ?? null)
    await offer.accept(path.join(folder, 'y'))
    await sent
    assert.deepEqual(asked.splice(0), [metadata ?? null])
    assert.deepEqual(new Set(told.splice(0).map(([name, event, said]) => JSON.stringify([name, event, said]))), new Set([
      ...['a', 'b'].flatMap(name => ['transfer_start', 'transfer_complete'].map(event => [name, event])), ['a', 'offer_sent']
    ].map(([name, event]) => JSON.stringify([name, event, metadata ?? null]))))
  }
  assert.equal({}.x, undefined)
})

test('what JSON cannot hold, and what is too much of it, is refused before anything is offered', LIMIT, async (t) => {
  const a = await node(t, 'http://127.0.0.1:9', 'a')
  const circle = {}
  circle.self = circle
  const deep = levels => Array.from({ length: levels - 1 }).reduce(inner => [inner], [])
  for (const [metadata, message] of [
    [circle, /metadata must be a value that JSON can hold/],
    [10n, /metadata must be a value that JSON can hold/],
    [() => {}, /metadata must be a value that JSON can hold/],
    ['é'.repeat(2048), /at most 4096 bytes as JSON, and is 4098/],
    [deep(128), /127 levels/],
    ['\ud800', /whole characters/]
  ]) {
    await assert.rejects(a.send({ filePath: __filename, recipientId: 'b', metadata }), failure('INVALID_ARGUMENT', error => assert.match(error.message, message)))
  }
  const { code, stderr } = await cli(t, ['send', __filename, '--to', 'b', '--metadata', '{a:1}']).ended
  assert.deepEqual([code, /--metadata must be JSON/.test(stderr)], [2, true])
})

test('a person who listens sees it escaped, a program as it is', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const said = { text: 'a\u202e\u0085\n', long: 'z'.repeat(1000) }
  for (const more of [[], ['--json']]) {
    const home = path.join(folder, 'home')
    const listener = cli(t, ['listen', '--once', '--actor-id', 'b', '-u', url, ...more], { cwd: folder, env: { ATS_P2P_HOME: home } })
    const sender = cli(t, ['send', filePath, '--to', 'b', '--actor-id', 'a', '-u', url, '--metadata', JSON.stringify(said)], { env: { ATS_P2P_HOME: path.join(folder, 'a') } })
    const [{ code, stdout, stderr }, sent] = await Promise.all([listener.ended, sender.ended])
    assert.deepEqual([code, stderr, sent.code], [0, '', 0], sent.stderr)
    if (more.length === 0) {
      const line = stdout.split('\n').find(text => text.startsWith('Metadata '))
      assert.match(line, /^Metadata \{"text":"a\\u\{202e\}\\u\{85\}\\n","long":"z{100,500}…$/)
    } else {
      const lines = stdout.split('\n').map(text => JSON.parse(text))
      for (const name of ['transfer_start', 'transfer_complete']) assert.deepEqual(lines.find(({ event }) => event === name).metadata, said)
      assert.ok(lines.filter(({ event }) => event === 'transfer_progress').every(line => !('metadata' in line)))
    }
  }
})
