'use strict'

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { performance } = require('node:perf_hooks')
const { test } = require('node:test')
const { pathToFileURL } = require('node:url')
const { exitCode } = require('../bin/exit-codes')
const { defer } = require('./fixtures/cleanup')
const { AtsP2pError, createNode, startHub, version } = require('..')
const { child, failure, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const NOWHERE = 'http://127.0.0.1:9'

test('an ES module imports every name', async () => {
  const module = await import(pathToFileURL(path.join(__dirname, '..', 'index.js')))
  assert.equal(module.createNode, createNode)
  assert.equal(module.startHub, startHub)
  assert.equal(module.AtsP2pError, AtsP2pError)
  assert.equal(module.version, version)
  assert.equal(module.default.createNode, createNode)
})

test('every code of the library is in the declarations, and has an exit code', () => {
  const read = name => fs.readFileSync(path.join(__dirname, '..', name), 'utf8')
  const sources = read('src/error.rs') + read('addon.js')
  const codes = [...sources.matchAll(/["'](ATS_P2P_[A-Z_]+)["']/g)].map(([, code]) => code)
  assert.ok(codes.length > 20)
  const declared = [...read('index.d.ts').matchAll(/\| '(ATS_P2P_[A-Z_]+)'/g)].map(([, code]) => code)
  assert.deepEqual(declared.sort(), codes.sort())
  const described = [...read('index.d.ts').matchAll(/\*\/\n {2}\| '(ATS_P2P_[A-Z_]+)'/g)].map(([, code]) => code)
  assert.deepEqual(described.sort(), declared, 'each has its comment')
  assert.deepEqual(codes.filter(code => exitCode({ code }) === 1), [])
  const names = read('src/error.rs').split('impl Step {')[1].split('\n    }\n')[0]
  const steps = [...names.matchAll(/Self::\w+ => "([a-z]+)"/g)].map(([, step]) => step)
  const declaredSteps = /FailedStep =\n([^(]+)/.exec(read('index.d.ts'))[1].match(/[a-z]+/g)
  assert.deepEqual(declaredSteps, steps)
})

test('createNode says what is wrong with an option', async () => {
  for (const [options, message] of [
    [{ atsUrl: 'nowhere' }, /atsUrl must be an http or https URL, not "nowhere"/],
    [{ atsUrl: 'ftp://x' }, /atsUrl/],
    [{ actorId: 7 }, /actorId must be a string, not 7/],
    [{ actorId: '  ' }, /actorId must not be empty/],
    [{ allowedPeers: 'b' }, /allowedPeers must be an array of strings, not "b"/],
    [{ allowedPeers: ['b', null] }, /each of .*allowedPeers must be a string, not null/],
    [{ maxFileSize: '100' }, /maxFileSize must be a positive whole number of bytes, not "100"/],
    [{ maxFileSize: -1 }, /maxFileSize/],
    [{ maxFileSize: 1.5 }, /maxFileSize/],
    [{ maxRate: 1023 }, /maxRate must be a whole number of bytes a second, at least 1024, not 1023/],
    [{ maxRate: '10M' }, /maxRate/],
    [{ maxConcurrent: 0 }, /maxConcurrent must be a whole number from 1 to 256, not 0/],
    [{ maxConcurrent: 257 }, /maxConcurrent/],
    [{ maxConcurrent: 1.5 }, /maxConcurrent/],
    [{ maxConcurrent: '4' }, /maxConcurrent/],
    [{ timeout: 0 }, /timeout/],
    [{ timeout: NaN }, /timeout/],
    [{ timeout: '5s' }, /timeout/],
    [{ bootstrap: ['127.0.0.1'] }, /bootstrap/],
    [{ home: 'a\0b' }, /home must not hold a NUL/],
    ['http://x', /the options must be an object/]
  ]) {
    await assert.rejects(createNode(options), failure('INVALID_ARGUMENT', error => assert.match(error.message, message)))
  }
})

test('options that mean "no limit" and options of the future are taken', LIMIT, async (t) => {
  await node(t, NOWHERE, 'a', { allowedPeers: null, maxFileSize: Infinity, maxRate: Infinity, colour: 'blue' })
})

test('send, watch, accept and status say what is missing', LIMIT, async (t) => {
  const made = await node(t, NOWHERE, 'a')
  const file = makeFile(tempFolder(t), 'x', 1)
  for (const [options, message] of [
    [undefined, /filePath is required/],
    [{}, /filePath is required/],
    [{ filePath: file.filePath }, /recipientId is required/],
    [{ filePath: file.filePath, recipientId: '' }, /recipientId must not be empty/],
    [{ filePath: 5, recipientId: 'b' }, /filePath must be a string, not 5/],
    [{ filePath: new URL('http://x/y'), recipientId: 'b' }, /file: URL/],
    [{ ...file, recipientId: 'b', onProgress: 1 }, /onProgress must be a function/],
    [{ ...file, recipientId: 'b', signal: {} }, /signal must be an AbortSignal/]
  ]) {
    await assert.rejects(made.send(options), failure('INVALID_ARGUMENT', (error) => {
      assert.ok(error instanceof TypeError)
      assert.match(error.message, message)
    }))
  }
  assert.throws(() => made.watch({ saveDir: 5 }), failure('INVALID_ARGUMENT'))
  for (const id of [undefined, NaN, '']) await assert.rejects(made.status(id), failure('INVALID_ARGUMENT'))
})

test('an offer is answered once, with arguments that make sense', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 10)
  const a = await node(t, url, 'a')
  const b = await node(t, url, 'b')
  b.watch()
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  const offer = await nextOffer(b)
  await assert.rejects(offer.accept(undefined), failure('INVALID_ARGUMENT'))
  await assert.rejects(offer.accept(''), failure('INVALID_ARGUMENT'))
  await assert.rejects(offer.accept(path.join(folder, 'y'), { saveDir: folder }), failure('INVALID_ARGUMENT'))
  await assert.rejects(offer.reject(5), failure('INVALID_ARGUMENT'))
  await Promise.all([offer.accept(path.join(folder, 'y')), sent])
  await assert.rejects(offer.accept(path.join(folder, 'z')), failure('ALREADY_ANSWERED'))
  await assert.rejects(offer.reject(), failure('ALREADY_ANSWERED'))
})

test('an aborted signal stops send before anything is offered', LIMIT, async (t) => {
  const made = await node(t, NOWHERE, 'a')
  const file = makeFile(tempFolder(t), 'x', 1)
  const reason = new Error('changed my mind')
  const sent = made.send({ filePath: file.filePath, recipientId: 'b', signal: AbortSignal.abort(reason) })
  await assert.rejects(sent, failure('ABORTED', error => assert.equal(error.cause, reason)))
})

test('an aborted signal withdraws the offer', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, url, 'a')
  const controller = new AbortController()
  const failed = []
  a.on('transfer_failed', event => failed.push(event))
  a.on('offer_sent', () => controller.abort())
  const sent = a.send({ filePath: file.filePath, recipientId: 'b', signal: controller.signal })
  const { taskId } = await sent.then(assert.fail, error => failure('ABORTED')(error) && error)
  assert.equal(failed.length, 1)
  assert.equal((await a.status(taskId)).status, 'cancelled')
})

test('destroy may be called again, and ends everything else', LIMIT, async (t) => {
  const made = await node(t, NOWHERE, 'a')
  made.watch()
  assert.equal(made.destroy(), made.destroy())
  await made.destroy()
  const gone = failure('DESTROYED', error => assert.ok(error instanceof AtsP2pError))
  await assert.rejects(made.send({ filePath: 'x', recipientId: 'b' }), gone)
  await assert.rejects(made.status('x'), gone)
  assert.throws(() => made.watch(), gone)
  await made[Symbol.asyncDispose]()
})

test('destroy aborts what is under way', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, url, 'a')
  a.on('offer_sent', () => a.destroy())
  await assert.rejects(a.send({ filePath: file.filePath, recipientId: 'b' }), failure('ABORTED'))
})

const SENDING = `
  const { createNode } = require(${JSON.stringify(path.join(__dirname, '..'))})
  const [atsUrl, home, filePath] = process.argv.slice(1)
  const to = (node, options) => node.send({ filePath, recipientId: 'b', timeout: 300, ...options })
`

for (const [name, body] of [
  ['made and forgotten', 'createNode({ atsUrl, home })'],
  ['made and destroyed', 'createNode({ atsUrl, home }).then(node => node.destroy())'],
  ['watching, then destroyed', `createNode({ atsUrl, home }).then((node) => {
    node.watch()
    node.on('connected', () => node.destroy())
  })`],
  ['sending, then destroyed', `createNode({ atsUrl, home }).then(async (node) => {
    await to(node).catch(error => console.log(error.code))
    await node.destroy()
  })`],
  ['destroyed while sending', `createNode({ atsUrl, home }).then(async (node) => {
    node.on('offer_sent', () => node.destroy())
    await to(node, { timeout: 60000 }).catch(error => console.log(error.code))
  })`]
]) {
  test(`a process with a node ${name} ends by itself`, LIMIT, async (t) => {
    const { url } = await hub(t)
    const folder = tempFolder(t)
    const { filePath } = makeFile(folder, 'x', 1)
    const process = child(t, ['-e', SENDING + body, url, path.join(folder, 'home'), filePath])
    const { code, stderr } = await process.ended
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  })
}

test('nothing of a node is left once it is destroyed', LIMIT, async (t) => {
  const { url } = await hub(t)
  const program = `
    const { once } = require('node:events')
    const { setImmediate: turn } = require('node:timers/promises')
    const { createNode } = require(${JSON.stringify(path.join(__dirname, '..'))})
    async function use (atsUrl, home) {
      const made = await createNode({ atsUrl, actorId: 'a', home })
      made.watch()
      await once(made, 'connected')
      await made.destroy()
      return new WeakRef(made)
    }
    use(...process.argv.slice(1)).then(async (made) => {
      // What was looked at stays for that turn, and what has a finalizer goes in a turn of its own.
      do {
        await turn()
        gc()
      } while (made.deref())
    })`
  const { code, stderr } = await child(t, ['--expose-gc', '-e', program, url, tempFolder(t)]).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
})

test('the connections of a node to the service end with it', LIMIT, async (t) => {
  // Less than the node keeps a connection that nothing uses.
  const AT_ONCE_MS = 4000
  const { url } = await hub(t)
  const { hostname, port } = new URL(url)
  const open = new Set()
  const way = net.createServer((near) => {
    const far = net.connect(Number(port), hostname)
    open.add(near)
    near.once('close', () => open.delete(near))
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('error', () => {})
      from.once('close', () => to.destroy())
      from.pipe(to)
    }
  })
  way.listen(0, '127.0.0.1')
  await once(way, 'listening')
  defer(t, () => way.close())
  let elapsed
  do {
    const made = await node(t, `http://127.0.0.1:${way.address().port}`, 'a')
    made.watch()
    await once(made, 'connected')
    await assert.rejects(made.status('nothing'), failure('UNKNOWN_TRANSFER'))
    const began = performance.now()
    assert.ok(open.size >= 2, 'one for events and one for requests')
    await made.destroy()
    await Promise.all([...open].map(socket => once(socket, 'close')))
    elapsed = performance.now() - began
    // After longer than that it shows nothing: whoever was busy meanwhile tries again.
  } while (elapsed >= AT_ONCE_MS)
  assert.equal(open.size, 0)
})

test('nothing of a destroyed node is at work in its process', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 1)
  const program = `${SENDING}
    const fs = require('node:fs')
    // Linux lists what a process has open.
    const sockets = () => {
      if (process.platform !== 'linux') return []
      const opened = fs.readdirSync('/proc/self/fd').map((fd) => {
        try {
          return fs.readlinkSync('/proc/self/fd/' + fd)
        } catch {
          return ''
        }
      })
      return opened.filter(name => name.startsWith('socket:')).sort()
    }
    // What leads to the parent process is at work all the time.
    const resources = process.getActiveResourcesInfo()
    const before = sockets()
    createNode({ atsUrl, home }).then(async (node) => {
      node.watch()
      await once(node, 'connected')
      await to(node, { timeout: 500 }).catch(error => assert.equal(error.code, 'ATS_P2P_OFFER_EXPIRED'))
      if (process.platform === 'linux') assert.ok(sockets().length > before.length)
      await node.destroy()
      assert.deepEqual(process.getActiveResourcesInfo(), resources)
      // The system ends them; that they stay open would show in a test above.
      while (sockets().join() !== before.join()) await turn()
    })`
  const start = "const assert = require('node:assert/strict'); const { once } = require('node:events');" +
    "const { setImmediate: turn } = require('node:timers/promises');"
  const ended = await child(t, ['-e', start + program, url, path.join(folder, 'home'), filePath]).ended
  assert.deepEqual({ code: ended.code, stderr: ended.stderr }, { code: 0, stderr: '' })
})

test('a watching process stays until it is told to end', LIMIT, async (t) => {
  const { url } = await hub(t)
  const process = child(t, ['-e', `${SENDING}
    createNode({ atsUrl, home }).then((node) => {
      node.watch()
      node.on('connected', () => setTimeout(() => console.log('{"event":"still here"}'), 500).unref())
    })`, url, path.join(tempFolder(t), 'home'), 'x'])
  await process.line('still here')
})

test('a listener that throws, or rejects for a reason of its own, becomes the error of the node', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  for (const listener of [() => { throw new Error('oops') }, async () => { throw new Error('oops') }]) {
    const a = await node(t, url, 'a')
    const b = await node(t, url, 'b')
    const error = new Promise(resolve => b.on('error', resolve))
    b.on('file', listener)
    b.watch()
    a.send({ filePath: file.filePath, recipientId: 'b' }).catch(() => {})
    assert.equal((await error).message, 'oops')
    await b.destroy()
    await a.destroy()
  }
})

test('an unheard error ends the process', LIMIT, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'x', 1)
  const a = await node(t, url, 'a')
  const process = child(t, ['-e', `${SENDING}
    createNode({ atsUrl, home, actorId: 'b' }).then((node) => {
      node.watch()
      node.on('file', async () => { throw new Error('oops') })
    })`, url, path.join(tempFolder(t), 'home'), 'x'])
  a.send({ filePath: file.filePath, recipientId: 'b' }).catch(() => {})
  const { code, stderr } = await process.ended
  assert.equal(code, 1)
  assert.match(stderr, /Error: oops/)
})

test('a failed accept that nobody catches was told by transfer_failed, and is no error of the node', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1)
  const a = await node(t, url, 'a', { timeout: 1000 })
  const b = await node(t, url, 'b')
  const events = []
  b.on('error', error => events.push(error))
  const failed = new Promise(resolve => b.on('transfer_failed', resolve))
  b.on('file', async ({ accept }) => { await accept(path.join(file.filePath, 'below a file')) })
  b.watch()
  await assert.rejects(a.send({ filePath: file.filePath, recipientId: 'b' }), failure('OFFER_EXPIRED'))
  assert.equal((await failed).code, 'ATS_P2P_NOT_WRITABLE')
  await b.destroy()
  assert.deepEqual(events, [])
})
