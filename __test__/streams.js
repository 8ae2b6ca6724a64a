'use strict'

// npm run test:streams [-- GIBIBYTES]: so much through `send({ stream })` and out of `accept()`, read at 20 MB/s, between
// two processes on this machine. Prints how much memory each had, how far the sender was ahead of the reader, and
// whether the hash is right.

const assert = require('node:assert/strict')
const { fork } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const path = require('node:path')
const { Readable } = require('node:stream')
const { setTimeout: sleep } = require('node:timers/promises')
const { createNode, startHub } = require('..')
const { defer, tempFolder, withCleanup } = require('./fixtures/cleanup')

const CHUNK = 1024 * 1024

/** Bytes that no compression makes fewer, as many as wanted. */
function * chunks (bytes) {
  for (let at = 0; at < bytes; at += CHUNK) {
    const chunk = Buffer.alloc(Math.min(CHUNK, bytes - at), crypto.randomBytes(4096))
    chunk.writeUInt32LE(at / CHUNK)
    yield chunk
  }
}

/** Sends in a process of its own, whose memory it tells, and what the sender thinks it has sent. */
async function send ({ url, home, bytes }) {
  const node = await createNode({ atsUrl: url, actorId: 'a', home, timeout: 120_000 })
  const tell = setInterval(() => process.send({ rss: process.memoryUsage.rss() }), 500)
  const hash = crypto.createHash('sha256')
  const stream = Readable.from((function * () {
    for (const chunk of chunks(bytes)) {
      hash.update(chunk)
      yield chunk
    }
  })(), { objectMode: false })
  try {
    const result = await node.send({ stream, fileName: 'stream', recipientId: 'b', maxBytes: Infinity, onProgress: ({ bytesSent }) => process.send({ sent: bytesSent, rss: process.memoryUsage.rss() }) })
    const digest = hash.digest('hex')
    assert.equal(result.hash, digest)
    process.send({ hash: digest })
  } finally {
    clearInterval(tell)
    await node.destroy()
    process.disconnect()
  }
}

/** Runs it: what was sent and received, and the numbers. */
async function stream (t, { bytes, rate }) {
  const folder = tempFolder(t)
  const hub = await startHub({ listen: '127.0.0.1:0', data: path.join(folder, 'hub') })
  defer(t, () => hub.close())
  const node = await createNode({ atsUrl: hub.url, actorId: 'b', home: path.join(folder, 'b'), timeout: 120_000 })
  defer(t, () => node.destroy())
  node.watch()
  const child = fork(__filename, ['--send', JSON.stringify({ url: hub.url, home: path.join(folder, 'a'), bytes })])
  defer(t, () => child.kill())
  const seen = { hash: null, sent: 0, read: 0, lead: 0, senderRss: [], rss: [] }
  child.on('message', ({ hash = seen.hash, sent = seen.sent, rss }) => {
    Object.assign(seen, { hash, sent })
    if (rss) seen.senderRss.push(rss)
    seen.lead = Math.max(seen.lead, sent - seen.read)
  })
  const closed = once(child, 'close')
  const [offer] = await once(node, 'file')
  const file = await offer.accept()
  const received = crypto.createHash('sha256')
  const began = performance.now()
  for await (const chunk of file) {
    received.update(chunk)
    seen.read += chunk.length
    seen.rss.push(process.memoryUsage.rss())
    const early = seen.read / rate * 1000 - (performance.now() - began)
    if (early > 0) await sleep(early)
  }
  const seconds = (performance.now() - began) / 1000
  await closed
  const [first, last] = [seen.rss.slice(0, seen.rss.length / 4), seen.rss.slice(-seen.rss.length / 4)].map(part => Math.max(...part))
  return { ...seen, received: received.digest('hex'), bytes: seen.read, seconds, spread: Math.max(...seen.rss) - Math.min(...seen.rss), first, last }
}

async function main () {
  const bytes = Number(process.argv[2] ?? 4) * 1024 ** 3
  await withCleanup(async (t) => {
    const run = await stream(t, { bytes, rate: 20e6 })
    const mib = value => `${(value / 1024 ** 2).toFixed(0)} MiB`
    const quarter = part => Math.max(...part)
    const { senderRss } = run
    console.log(`${run.bytes} bytes in ${run.seconds.toFixed(1)} s, ${(run.bytes / run.seconds / 1e6).toFixed(1)} MB/s`)
    console.log(`reader: ${mib(run.first)} at most in the first quarter, ${mib(run.last)} in the last`)
    console.log(`sender: ${mib(quarter(senderRss.slice(0, senderRss.length / 4)))} at most in the first quarter, ${mib(quarter(senderRss.slice(-senderRss.length / 4)))} in the last`)
    console.log(`the sender was at most ${mib(run.lead)} ahead of the reader`)
    assert.equal(run.received, run.hash)
    console.log(`SHA-256 ${run.hash}, the same at both ends`)
    assert.ok(run.lead < 32 * 1024 ** 2, 'the sender did not wait')
    assert.ok(run.last < run.first + 32 * 1024 ** 2, 'the memory of the reader grew')
  })
}

if (process.argv[2] === '--send') send(JSON.parse(process.argv[3]))
else if (require.main === module) main()

module.exports = { stream }
