'use strict'

// What is given to calls: names that nobody knows, and signals and URLs of other realms.

const assert = require('node:assert/strict')
const { getEventListeners, once } = require('node:events')
const path = require('node:path')
const { test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { pathToFileURL } = require('node:url')
const vm = require('node:vm')
const { createNode, doctor, identity } = require('..')
const { nearest } = require('../lib/unknown')
const { child, contents, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const NOWHERE = 'http://127.0.0.1:9'

/** The warnings that the process gives while `run` runs. */
async function warnings (run) {
  const heard = []
  const hear = warning => heard.push(warning)
  process.on('warning', hear)
  await run()
  // They come in a turn of their own.
  await turn()
  process.off('warning', hear)
  return heard
}

test('an unknown option is warned of once, with what may have been meant', LIMIT, async (t) => {
  const made = await node(t, NOWHERE, 'a')
  for (const [run, message] of [
    [() => createNode({ actorID: 'a' }), 'createNode: unknown option `actorID`; did you mean `actorId`?'],
    [() => createNode({ maxSize: 5 }), 'createNode: unknown option `maxSize`; did you mean `maxFileSize`?'],
    [() => createNode({ saveDir: 'x' }), 'createNode: unknown option `saveDir`; it is an option of watch and accept'],
    [() => createNode({ 'a\n`b': 1 }), 'createNode: unknown option `a\\n`b`'],
    [() => createNode({ get strange () { throw new Error('read') } }), 'createNode: unknown option `strange`'],
    [() => made.watch({ chanel: 'x' }), 'watch: unknown option `chanel`; did you mean `channel`?'],
    [() => made.send({ filePath: __filename, recipientId: 'b', timeuot: 5, signal: AbortSignal.abort() }).catch(() => {}),
      'send: unknown option `timeuot`; did you mean `timeout`?'],
    [() => identity.show({ identity: false, atsURL: NOWHERE }), 'identity.show: unknown option `atsURL`; did you mean `atsUrl`?']
  ]) {
    const [warning, ...more] = await warnings(run)
    assert.deepEqual(
      [warning?.name, warning?.code, warning?.message, more],
      ['AtsP2pWarning', 'ATS_P2P_UNKNOWN_OPTION', message, []]
    )
    assert.deepEqual(await warnings(run), [], 'the second time')
  }
})

test('what is left undefined, and what another call with the same options takes, is warned of by nobody', LIMIT, async () => {
  assert.deepEqual(await warnings(async () => {
    await createNode({ nothing: undefined, [Symbol('x')]: 1 })
    await identity.show({ identity: false, resume: true, timeout: 5 })
  }), [])
})

test('a required option that is missing is told with the one that was meant for it', LIMIT, async (t) => {
  const made = await node(t, NOWHERE, 'a')
  await assert.rejects(made.send({ filePath: 'x', recipentId: 'b' }), failure('INVALID_ARGUMENT', (error) => {
    assert.equal(error.message, 'send: recipientId is required, and `recipentId` is unknown')
  }))
})

test('a name is near to one that differs by a slip, and to no other word', () => {
  const table = { recipientId: 1, filePath: 1, timeout: 1, ca: 1, home: 1 }
  for (const [name, known] of [
    ['recipentId', 'recipientId'], ['recipient_id', 'recipientId'], ['RECIPIENTID', 'recipientId'], ['to', 'recipientId'],
    ['filepath', 'filePath'], ['fielPath', 'filePath'], ['timeoutMs', 'timeout'], ['hoem', 'home'],
    ['colour', undefined], ['x', undefined], ['', undefined], ['💥', undefined], ['constructor', undefined],
    ['a'.repeat(10_000), undefined]
  ]) assert.equal(nearest(name, table), known, name)
})

test('many calls with one signal listen to it once, and no more when they have ended', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  const controller = new AbortController()
  const { signal } = controller
  const listeners = () => getEventListeners(signal, 'abort').length
  const heard = await warnings(async () => {
    const sends = [a, b].flatMap(from => Array.from({ length: 15 }, (_, i) =>
      from.send({ filePath: file.filePath, recipientId: `nobody ${i}`, signal })))
    await Promise.all([once(a, 'offer_sent'), once(b, 'offer_sent')])
    assert.equal(listeners(), 1)
    controller.abort('enough')
    await Promise.all(sends.map(send => assert.rejects(send, failure('ABORTED', error => assert.equal(error.cause, 'enough')))))
  })
  assert.deepEqual([heard, listeners()], [[], 0])
})

test('a signal is taken by what it does, whoever made it', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, url, 'a')
  // As a polyfill has it, made in another realm.
  const Signal = vm.runInNewContext(`class Signal {
    aborted = false
    listeners = new Map()
    addEventListener (name, listener) { this.listeners.set(listener, name) }
    removeEventListener (name, listener) { this.listeners.delete(listener) }
    abort (reason) {
      this.aborted = true
      this.reason = reason
      for (const listener of this.listeners.keys()) listener({ type: 'abort' })
    }
  }; Signal`)
  const to = signal => a.send({ filePath: file.filePath, recipientId: 'nobody', signal })
  const whys = [new Error('why'), 'why', 0, null, { why: 1 }, undefined]
  for (const reason of whys) {
    const signal = new Signal()
    const sent = to(signal)
    await once(a, 'offer_sent')
    signal.abort(reason)
    await assert.rejects(sent, failure('ABORTED', error => assert.equal(error.cause, reason)))
    assert.equal(signal.listeners.size, 0)
    await assert.rejects(to(signal), failure('ABORTED', error => assert.equal(error.cause, reason)), 'aborted before')
  }
  for (const signal of [{}, { aborted: false }, { aborted: false, addEventListener () {} }, 'x', () => {}]) {
    await assert.rejects(to(signal), failure('INVALID_ARGUMENT', error => assert.match(error.message, /signal must be an AbortSignal/)))
  }
  await assert.rejects(to(new AbortController()), failure('INVALID_ARGUMENT', error => assert.match(error.message, /`signal` of this/)))
})

test('a URL is taken by what it is, whoever made it', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x y', 10)
  const foreign = text => vm.runInNewContext('({ href, protocol, toString () { return href } })', {
    href: String(text), protocol: new URL(text).protocol
  })
  const a = await node(t, foreign(url), 'a', { home: foreign(pathToFileURL(path.join(folder, 'a'))) })
  const b = await node(t, url, 'b', { identity: false, tunnel: false })
  b.watch()
  const sent = a.send({ filePath: foreign(pathToFileURL(file.filePath)), recipientId: 'b' })
  const { accept } = await nextOffer(b)
  await accept(foreign(pathToFileURL(path.join(folder, 'y z'))))
  await sent
  assert.deepEqual(contents(folder), ['a', 'x y', 'y z'])
  for (const filePath of ['file:///a%2fb', 'file:///a%00b', 'http://x/y']) {
    await assert.rejects(a.send({ filePath: new URL(filePath), recipientId: 'b' }), failure('INVALID_ARGUMENT'), filePath)
  }
})

test('options of another realm are taken', LIMIT, async (t) => {
  const options = vm.runInNewContext(`({ atsUrl: '${NOWHERE}', allowedPeers: ['b'], bootstrap: [], identity: false })`)
  await (await createNode(options)).destroy()
  for (const wrong of [Object.create(null), Symbol('x'), () => {}, 5n]) {
    await assert.rejects(createNode({ atsUrl: wrong }), failure('INVALID_ARGUMENT'))
    await assert.rejects(doctor({ atsUrl: wrong }), failure('INVALID_ARGUMENT'))
  }
  // In a process of its own, where the warning is printed.
  const { stderr } = await child(t, ['-e', "require(process.argv[1]).createNode({ chanel: 'x' })", path.join(__dirname, '..')]).ended
  assert.match(stderr, /did you mean `channel`/)
})
