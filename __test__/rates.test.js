'use strict'

// How fast files go where a limit is set. That a rate is kept to within a few percent, and shared out evenly, is tested
// in virtual time (src/pump/throttle); here it is seen that it holds for real transfers, in both directions.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { bytesOf } = require('../lib/checks')
const { cli, hub, makeFile, nextOffer, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const RATE = 2 ** 20

/** When a transfer's bytes were due first and when it was over, in milliseconds. */
function times (from) {
  const seen = {}
  for (const event of ['transfer_start', 'transfer_complete']) from.on(event, ({ fileName }) => { (seen[fileName] ??= {})[event] = performance.now() })
  return name => seen[name].transfer_complete - seen[name].transfer_start
}

// What goes at once, and is in the buffers on the way: half a second, and some pieces.
const LEAST_MS = bytes => (bytes / RATE - 0.75) * 1000

test('a limit of the sender, of its node or of one transfer, and one of the receiver hold', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 1.75 * RATE)
  const limited = { a: { maxRate: RATE }, b: {}, c: {}, d: { maxRate: RATE }, e: {}, f: {} }
  const nodes = Object.fromEntries(await Promise.all(Object.entries(limited).map(async ([id, options]) => [id, await node(t, url, id, options)])))
  for (const made of Object.values(nodes)) made.watch()
  const run = async (sender, recipientId, sending = {}, accepting = {}) => {
    const [from, to] = [nodes[sender], nodes[recipientId]]
    const took = times(from)
    const target = path.join(folder, `${sender} to ${recipientId}`)
    const offered = nextOffer(to)
    const sent = from.send({ filePath: file.filePath, recipientId, ...sending })
    await (await offered).accept(target, accepting)
    await sent
    assert.deepEqual(fs.readFileSync(target), file.bytes)
    return took('x')
  }
  const [ofNode, ofTransfer, ofAccept, ofReceiver] = await Promise.all([
    run('a', 'b'), run('b', 'c', { maxRate: RATE }), run('e', 'f', {}, { maxRate: RATE }), run('f', 'd')
  ])
  for (const ms of [ofNode, ofTransfer, ofAccept, ofReceiver]) assert.ok(ms >= LEAST_MS(file.bytes.length), `${ms} ms`)
})

test('a small file is not held up by a large one between the same peers', LIMIT, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const [large, small] = [makeFile(folder, 'large', 2 * RATE), makeFile(folder, 'small', 20_000)]
  await Promise.all([[{ maxRate: RATE }, {}], [{}, { maxRate: RATE }]].map(async ([sender, receiver], i) => {
    const [from, to] = [`a${i}`, `b${i}`]
    const [a, b] = [await node(t, url, from, sender), await node(t, url, to, receiver)]
    b.watch({ saveDir: path.join(folder, to) })
    const sending = a.send({ filePath: large.filePath, recipientId: to })
    await once(a, 'transfer_start')
    await a.send({ filePath: small.filePath, recipientId: to })
    const [under] = b.transfers()
    assert.equal(under?.fileName, 'large')
    assert.ok(under.bytes < large.bytes.length * 0.9, `${under.bytes} of ${large.bytes.length}`)
    await sending
  }))
})

test('a rate has a unit on the command line and in the environment', LIMIT, async (t) => {
  for (const [text, rate] of [
    ['1024', 1024], ['10K', 10_240], ['10k', 10_240], ['1.5M', 1_572_864], ['2MiB', 2 ** 21], ['2MB', 2_000_000], ['1G', 2 ** 30], ['500kb', 500_000]
  ]) assert.equal(bytesOf(text), rate, text)
  for (const text of ['', 'K', '1T', '1 K', '-1K', '1e3', '1K/s', '1B', '1iB', '1.2.3K']) assert.ok(Number.isNaN(bytesOf(text)), text)
  const run = async (args, env) => JSON.parse((await cli(t, ['config', '--json', ...args], { env }).ended).stdout)
  const { settings } = await run(['--max-rate', '10K'], { ATS_P2P_MAX_RATE: '1M' })
  assert.equal(settings.find(({ name }) => name === 'maxRate').value, 10_240)
  const { code, message } = await run([], { ATS_P2P_MAX_RATE: 'fast' })
  assert.deepEqual([code, /ATS_P2P_MAX_RATE must be bytes a second/.test(message)], ['ATS_P2P_INVALID_ARGUMENT', true])
})
