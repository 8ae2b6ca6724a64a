'use strict'

// Whatever a node, a hub or a node of the DHT was used for: once it is over, nothing of it is at work in its process,
// which ends by itself.

const assert = require('node:assert/strict')
const path = require('node:path')
const { test } = require('node:test')
const { child, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }

// Each is run with a hub on which `b` takes every file, `given`, and what the package exports.
const WAYS = {
  'nothing but require': '',
  'a node that is destroyed': 'await (await node()).destroy()',
  'send': "const a = await node(); await a.send({ filePath, recipientId: 'b' }); await a.destroy()",
  'send with a signal that never aborts': `
    const a = await node()
    await a.send({ filePath, recipientId: 'b', signal: new AbortController().signal, onProgress () {} })
    await a.destroy()`,
  'send to nobody': `
    const a = await node()
    await fails(a.send({ filePath, recipientId: 'nobody', timeout: 200 }), 'ATS_P2P_OFFER_EXPIRED')
    await a.destroy()`,
  'send of no file': `
    const a = await node()
    await fails(a.send({ filePath: filePath + 'x', recipientId: 'b' }), 'ATS_P2P_FILE_NOT_FOUND')
    await a.destroy()`,
  'send that is aborted': `
    const a = await node()
    const controller = new AbortController()
    a.once('offer_sent', () => controller.abort())
    await fails(a.send({ filePath, recipientId: 'nobody', signal: controller.signal }), 'ATS_P2P_ABORTED')
    await a.destroy()`,
  'send that destroy ends': `
    const a = await node()
    a.once('offer_sent', () => a.destroy())
    await fails(a.send({ filePath, recipientId: 'nobody' }), 'ATS_P2P_ABORTED')
    await a.destroy()`,
  'send to a service that is not there': `
    const a = await node({ atsUrl: 'http://127.0.0.1:9', timeout: 200 })
    await a.send({ filePath, recipientId: 'b' }).catch(() => {})
    await a.destroy()`,
  'watch': "const a = await node(); a.watch(); await once(a, 'connected'); await a.destroy()",
  'watch with a folder, and a file': `
    const [a, c] = [await node(), await node({ actorId: you, shouldAccept: async () => true })]
    c.watch({ saveDir: home + '/inbox' })
    await a.send({ filePath, recipientId: you })
    await Promise.all([a.destroy(), c.destroy()])`,
  'offers, and a file': `
    const [a, c] = [await node(), await node({ actorId: you })]
    const sent = a.send({ filePath, recipientId: you })
    for await (const offer of c.offers()) {
      await offer.accept({ saveDir: home })
      break
    }
    await sent
    await Promise.all([a.destroy(), c.destroy()])`,
  'offers that nobody answers': `
    const [a, c] = [await node(), await node({ actorId: you })]
    const sent = fails(a.send({ filePath, recipientId: you }), 'ATS_P2P_ABORTED')
    const offers = c.offers()
    await offers.next()
    const waits = offers.next()
    await c.destroy()
    assert.equal((await waits).done, true)
    await a.destroy()
    await sent`,
  'a node that was suspended': `
    const a = await node()
    await a.send({ filePath, recipientId: 'b' })
    await a.suspend()
    await a.destroy()`,
  'status, cancel and resumeOffers': `
    const a = await node({ resume: true })
    await fails(a.status('x'), 'ATS_P2P_UNKNOWN_TRANSFER')
    await fails(a.cancel('x'), 'ATS_P2P_UNKNOWN_TRANSFER')
    assert.deepEqual(await a.resumeOffers(), [])
    assert.deepEqual(a.transfers(), [])
    await a.destroy()`,
  'a hub and its keys': `
    const own = await startHub({ listen: '127.0.0.1:0', data: home })
    await hubKeys.create('c', { data: home })
    const { invitation } = await hubKeys.invite('c', { data: home })
    await join(own.url, invitation)
    await backupHub(home + '/copy', { data: home })
    await own.close()`,
  'a node of the DHT': 'await (await startDht({ host: "127.0.0.1", port: 0 })).close()',
  'the doctor': 'await doctor({ atsUrl, home, actorId: you })',
  'who waits for a doctor': `
    const waiting = await waitForDoctor({ atsUrl, home })
    const next = waiting[Symbol.asyncIterator]().next()
    await waiting.close()
    assert.equal((await next).done, true)`,
  'identity, peers and verify': `
    const a = await node()
    const { transferId } = await a.send({ filePath, recipientId: 'b' })
    await a.destroy()
    const same = { atsUrl, home: home + '/' + me, actorId: me }
    // The receiver tells the service of it a little later.
    const isEarly = ({ code }) => code === 'ATS_P2P_NO_RECEIPT'
    while (await verify({ ...same, id: transferId }).then(() => false, isEarly)) await turn()
    await identity.show(same)
    assert.equal((await peers.list(same)).length, 1)`,
  'a worker that ends in the middle': `
    const { Worker } = require('node:worker_threads')
    const worker = new Worker('const { createNode } = require(' + JSON.stringify(root) + ');' +
      'createNode(require("node:worker_threads").workerData).then((node) => {' +
      'node.watch(); node.once("connected", () => process.exit()) })', { eval: true, workerData: { atsUrl, home, actorId: you } })
    await once(worker, 'exit')`
}

const PROGRAM = `
  const assert = require('node:assert/strict')
  const { once } = require('node:events')
  const { setImmediate: turn } = require('node:timers/promises')
  const [root, atsUrl, home, filePath, me] = process.argv.slice(1)
  const you = me + ' too'
  const fails = (call, code) => assert.rejects(call, error => error.code === code)
  // A worker has Node.js open them.
  void [process.stdout, process.stderr]
  const before = process.getActiveResourcesInfo()
  const {
    backupHub, createNode, doctor, hubKeys, identity, join, peers, startDht, startHub, verify, waitForDoctor
  } = require(root)
  const node = options => createNode({ atsUrl, home: home + '/' + (options?.actorId ?? me), actorId: me, timeout: 30000, ...options })
  async function use () { BODY }
  use().then(async () => {
    // Node.js frees what is closed in a turn of its own.
    for (let i = 0; i < 1000 && process.getActiveResourcesInfo().length > before.length; i++) await turn()
    assert.deepEqual(process.getActiveResourcesInfo(), before)
  })`

test('nothing is left at work, and the process ends by itself', { timeout: 120_000, concurrency: 3 }, async (t) => {
  const { url } = await hub(t)
  const { filePath } = makeFile(tempFolder(t), 'x', 1000)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(tempFolder(t), 'inbox') })
  const runs = Object.entries(WAYS).map(([name, body], i) => t.test(name, LIMIT, async (t) => {
    const home = tempFolder(t)
    const env = { ...process.env, HOME: home }
    const { ended } = child(t, ['-e', PROGRAM.replace('BODY', () => body), path.join(__dirname, '..'), url, home, filePath, `a ${i}`], { env })
    const { code, stderr } = await ended
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  }))
  await Promise.all(runs)
})
