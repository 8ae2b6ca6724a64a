'use strict'

// Agents in places that let nothing out but HTTP, through a proxy or under a certificate of the company's own.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { findOpenssl, makeCertificate } = require('./fixtures/certificate')
const { cli, hub, makeFile, sha256, tempFolder } = require('./fixtures/harness')
const { proxy } = require('./fixtures/proxy')

const LIMIT = { timeout: 120_000 }
// Where no UDP packet is answered.
const NOBODY = '127.0.0.1:9'

/** Sends a file of `size` bytes from one command to another in `env`; the messages of both, in the end. */
async function transfer (t, env, size) {
  const folder = tempFolder(t)
  const { filePath, hash } = makeFile(folder, 'report.bin', size)
  const inbox = path.join(folder, 'in')
  const listening = cli(t, ['listen', '--actor-id', 'b', '--save-dir', inbox, '--json'], { env })
  await listening.line('connected')
  const sent = await cli(t, ['send', filePath, '--to', 'b', '--actor-id', 'a', '--json'], { env }).ended
  assert.equal(sent.code, 0, sent.stdout + sent.stderr)
  await listening.line('transfer_complete')
  assert.equal(sha256(fs.readFileSync(path.join(inbox, 'report.bin'))), hash)
  listening.kill('SIGINT')
  const messages = ({ stdout }) => stdout.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
  return { sender: messages(sent), receiver: messages(await listening.ended) }
}

const paths = (messages) => messages.filter(({ event }) => event === 'peer_connected').map(({ path }) => path)

test('where a proxy is the only way out, a file goes through it by the tunnel', LIMIT, async (t) => {
  const { url } = await hub(t, { allowedHosts: ['hub.test'], open: true })
  const { url: way, asked } = await proxy(t, new URL(url).port, { password: 'me:secret' })
  const env = { ATS_URL: 'http://hub.test', HTTP_PROXY: way, ATS_P2P_BOOTSTRAP: NOBODY }
  const { sender, receiver } = await transfer(t, env, 2_000_000)
  assert.deepEqual([paths(sender), paths(receiver)], [['tunnel'], ['tunnel']])
  assert.ok(asked.some(line => line.startsWith('GET http://hub.test/')), asked.join('\n'))
  assert.ok(asked.includes('CONNECT hub.test:80'), asked.join('\n'))
})

// What a proxy does to every connection, and the file that has to get through; the whole of it by `npm run test:proxies`.
const CUTS = process.env.PROXY_TEST === 'whole'
  ? [{ size: 1 << 30, cuts: { bytes: 100e6 } }, { size: 1 << 30, cuts: { ms: 60_000 }, rate: 6e6 }]
  : [{ size: 25e6, cuts: { bytes: 10e6 } }, { size: 6e6, cuts: { ms: 1000 }, rate: 2e6 }]

for (const { size, cuts, rate } of CUTS) {
  const when = cuts.bytes ? `${cuts.bytes / 1e6} MB` : `${cuts.ms / 1000} s`
  test(`a proxy that cuts every connection after ${when} only makes the file come in parts`, { timeout: 600_000 }, async (t) => {
    const { url } = await hub(t, { allowedHosts: ['hub.test'], open: true })
    const { url: way } = await proxy(t, new URL(url).port, { cuts, rate })
    const env = { ATS_URL: 'http://hub.test', HTTP_PROXY: way, ATS_P2P_BOOTSTRAP: NOBODY }
    const began = performance.now()
    const { receiver } = await transfer(t, env, size)
    const used = paths(receiver)
    t.diagnostic(`${size} bytes in ${used.length} parts and ${((performance.now() - began) / 1000).toFixed(1)} s`)
    assert.ok(used.length >= 3 && used.every(path => path === 'tunnel'), used.join())
    assert.equal(receiver.filter(({ event }) => event === 'transfer_start').length, 1)
  })
}

const opensslOnly = findOpenssl() ? LIMIT : { ...LIMIT, skip: 'skipped: no OpenSSL is installed to make a certificate' }

test('an authority that Node.js is told of is trusted, by the tunnel too', opensslOnly, async (t) => {
  const { cert, keyFile } = makeCertificate(tempFolder(t))
  const { url } = await hub(t, { cert, keyFile })
  const env = { ATS_URL: url, ATS_P2P_BOOTSTRAP: NOBODY }
  const refused = await cli(t, ['status', '1'], { env }).ended
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /certificate at .* is not trusted: it is signed by itself \(127\.0\.0\.1\), .*NODE_EXTRA_CA_CERTS/)
  assert.doesNotMatch(refused.stderr, /is it running/)
  const { sender } = await transfer(t, { ...env, NODE_EXTRA_CA_CERTS: cert }, 1_000_000)
  assert.deepEqual(paths(sender), ['tunnel'])
})
