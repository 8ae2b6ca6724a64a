'use strict'

// What becomes of nodes whose thread or process ends before they are destroyed.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { setImmediate: turn } = require('node:timers/promises')
const { Worker } = require('node:worker_threads')
const { child, contents, defer, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const LARGE = 64 * 1024 * 1024
// A little less than a process waits for what ends with it.
const FAREWELL_MS = 450

const PRELUDE = `
  const { createNode, startDht, startHub, waitForDoctor } = require(${JSON.stringify(path.join(__dirname, '..'))})
  const { isMainThread, parentPort, workerData } = require('node:worker_threads')
  const { atsUrl, home, filePath, ending, ...given } = isMainThread ? JSON.parse(process.argv[1]) : workerData
  const say = message => isMainThread ? console.log(JSON.stringify({ event: 'said', ...message })) : parentPort.postMessage(message)
  const endings = {
    exit: () => process.exit(),
    throw: () => setImmediate(() => { throw new Error('on purpose') }),
    reject: () => { Promise.reject(new Error('on purpose')) },
    terminate: () => {}
  }
  const end = () => {
    const began = performance.now()
    // Behind the addon's own.
    const left = () => require('node:fs').writeSync(1, JSON.stringify({ event: 'left', took: performance.now() - began }) + '\\n')
    if (isMainThread) process.on('exit', left)
    endings[ending]()
  }
`

// Programs for a worker or a process: each says what it has begun, and ends in the middle.
const OFFERING = `${PRELUDE}
  createNode({ atsUrl, home, actorId: 'a' }).then((node) => {
    node.on('offer_sent', ({ taskId }) => {
      say({ taskId })
      end()
    })
    return node.send({ filePath, recipientId: 'b' })
  })`

const RECEIVING = `${PRELUDE}
  createNode({ atsUrl, home, actorId: 'b' }).then((node) => {
    node.on('connected', () => say({ connected: true }))
    node.on('transfer_start', ({ taskId }) => {
      say({ taskId })
      end()
    })
    node.watch({ saveDir: given.saveDir })
  })`

/** A worker that runs `program`: what it says next, its end, and how long that was waited for: what is left goes on. */
function worker (t, program, data) {
  const started = new Worker(program, { eval: true, workerData: data })
  const ended = new Promise((resolve) => {
    started.on('error', () => {})
    started.once('exit', resolve)
  })
  defer(t, async () => {
    await started.terminate()
    await ended
  })
  return { said: () => new Promise(resolve => started.once('message', resolve)), end: () => started.terminate(), ended, took: async () => 0 }
}

/** The same as a process of its own. */
function program (t, text, data) {
  const { line, ended } = child(t, ['-e', text, JSON.stringify(data)])
  return { said: () => line('said'), end: () => {}, ended, took: async () => (await line('left')).took }
}

/** Waits until a task has ended, and gives how. */
async function fate (observer, taskId) {
  for (;;) {
    const { status } = await observer.status(taskId)
    if (status !== 'pending' && status !== 'in_progress') return status
  }
}

for (const [what, start, endings] of [
  ['worker', worker, ['exit', 'throw', 'reject', 'terminate']],
  ['process', program, ['exit', 'throw', 'reject']]
]) {
  for (const ending of endings) {
    test(`a ${what} that ends by ${ending} withdraws what it offered`, LIMIT, async (t) => {
      const { url } = await hub(t)
      const folder = tempFolder(t)
      const { filePath } = makeFile(folder, 'x', 1)
      const observer = await node(t, url, 'observer')
      for (;;) {
        const { said, end, ended, took } = start(t, OFFERING, { atsUrl: url, home: path.join(folder, 'home'), filePath, ending })
        const { taskId } = await said()
        if (ending === 'terminate') end()
        await ended
        // On a machine so busy that it took too long it shows nothing.
        if (await took() > FAREWELL_MS) continue
        assert.equal(await fate(observer, taskId), 'cancelled')
        break
      }
    })
  }

  test(`a ${what} that ends while it receives leaves no partial file, and another goes on in its place`, LIMIT, async (t) => {
    const { url } = await hub(t)
    const folder = tempFolder(t)
    const { filePath } = makeFile(folder, 'x', LARGE)
    const saveDir = path.join(folder, 'inbox')
    const a = await node(t, url, 'a')
    const data = { atsUrl: url, home: path.join(folder, 'home'), saveDir, ending: 'exit' }
    let took
    do {
      fs.rmSync(saveDir, { recursive: true, force: true })
      const first = start(t, RECEIVING, data)
      await first.said()
      const sent = a.send({ filePath, recipientId: 'b' }).then(() => 'sent', error => error.code)
      await first.ended
      assert.notEqual(await sent, 'sent')
      took = await first.took()
    } while (took > FAREWELL_MS)
    // What goes on after the thread is over before the next one begins.
    while (contents(saveDir).length > 0) await turn()
    const second = start(t, RECEIVING, { ...data, ending: 'terminate' })
    await a.send({ filePath, recipientId: 'b' })
    assert.deepEqual(contents(saveDir), ['x'])
    assert.equal(fs.statSync(path.join(saveDir, 'x')).size, LARGE)
    if (what === 'worker') {
      second.end()
      await second.ended
    }
  })
}

test('a node of a worker that ended takes no offers, and one in another worker does', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 1)
  const a = await node(t, url, 'a')
  const data = { atsUrl: url, home: path.join(folder, 'home'), saveDir: path.join(folder, 'first'), ending: 'terminate' }
  const first = worker(t, RECEIVING, data)
  await first.said()
  await a.send({ filePath, recipientId: 'b' })
  first.end()
  await first.ended
  const second = worker(t, RECEIVING, { ...data, saveDir: path.join(folder, 'second') })
  await second.said()
  await a.send({ filePath, recipientId: 'b' })
  assert.deepEqual([contents(data.saveDir), contents(path.join(folder, 'second'))], [['x'], ['x']])
})

test('a hub, a node of the DHT and who waits for a doctor end with their worker', LIMIT, async (t) => {
  const folder = tempFolder(t)
  const { bootstrap } = await hub(t)
  for (const [start, again] of [
    [`startHub({ listen: given.place ?? '127.0.0.1:0', data: home }).then(hub => say({ place: new URL(hub.url).host }))`, true],
    ["startDht({ host: '127.0.0.1', port: given.place ?? 0 }).then(dht => say({ place: Number(dht.address.split(':')[1]) }))", true],
    [`waitForDoctor({ home, bootstrap: ${JSON.stringify(bootstrap)} }).then((waiting) => {
      waiting[Symbol.asyncIterator]().next()
      say({ place: null })
    })`, false]
  ]) {
    const first = worker(t, PRELUDE + start, { home: path.join(folder, 'home') })
    const { place } = await first.said()
    first.end()
    await first.ended
    if (!again) continue
    // Its place is free for another one.
    const second = worker(t, PRELUDE + start, { home: path.join(folder, 'home'), place })
    assert.deepEqual(await second.said(), { place })
    second.end()
    await second.ended
  }
})

test('what is still starting when its worker ends is stopped', LIMIT, async (t) => {
  const folder = tempFolder(t)
  for (const start of ['startHub({ listen: "127.0.0.1:0", data: home })', 'startDht({ host: "127.0.0.1", port: 0 })',
    'createNode({ home, atsUrl: "http://127.0.0.1:9" }).then(node => node.watch())']) {
    const starting = worker(t, `${PRELUDE} ${start}; say({}); process.exit()`, { home: path.join(folder, 'home') })
    await starting.ended
  }
})

test('a process that ends waits for no service that does not answer', LIMIT, async (t) => {
  const { filePath } = makeFile(tempFolder(t), 'x', 1)
  const { said, ended } = program(t, `${PRELUDE}
    const silent = require('node:net').createServer(() => setImmediate(() => {
      say({ exits: true })
      process.exit()
    }))
    silent.listen(0, '127.0.0.1', async () => {
      const node = await createNode({ atsUrl: 'http://127.0.0.1:' + silent.address().port, home })
      node.watch()
      node.send({ filePath, recipientId: 'b' }).catch(() => {})
    })`, { home: path.join(tempFolder(t), 'home'), filePath })
  await said()
  const began = performance.now()
  const { code, stderr } = await ended
  const took = performance.now() - began
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  // Half a second, on a machine that has nothing else to do; without an end it would be ten.
  assert.ok(took < 8000, `${took} ms`)
  t.diagnostic(`${Math.round(took)} ms`)
})
