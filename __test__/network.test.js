'use strict'

// Networks that change in the middle of a transfer: whatever happens to them, the file arrives whole, and nobody has
// to do anything for it. Each case has a network of its own; all run at once. `npm run test:network` does the same
// with 1 GiB. How many connections it took is told, not tested: where this machine is busy, one may be given up that
// would have lived.

const test = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { cli, makeFile, sha256, tempFolder } = require('./fixtures/harness')
const { Network, cannot } = require('./fixtures/netns')

const IS_LARGE = process.env.NETWORK_TEST_BYTES !== undefined
const SIZE = Number(process.env.NETWORK_TEST_BYTES ?? 24 * 1024 * 1024)
// Slow enough to be in the middle for some seconds.
const RATE = SIZE / 6
const CUT_MS = 8000
// More than a silent peer is waited for.
const SLEEP_MS = IS_LARGE ? 20_000 : 15_000
// Where a new connection is needed, the old one is given up first.
const LIMIT_MS = 110_000

const LIMIT = { timeout: LIMIT_MS + 60_000 }
const skip = cannot()

test('the network changes in the middle of a transfer', { ...LIMIT, concurrency: true, skip }, async (t) => {
  await Promise.all([
    t.test('the recipient is cut off for 8 s', LIMIT, async (t) => {
      await transfer(t, async ({ network }) => {
        network.down('b')
        await sleep(CUT_MS)
        network.up('b')
      })
    }),

    t.test('the recipient comes back at another address', LIMIT, async (t) => {
      await transfer(t, async ({ network }) => {
        network.down('b')
        await sleep(CUT_MS)
        network.up('b', '10.77.0.33')
      })
    }),

    t.test('the sender comes back at another address', LIMIT, async (t) => {
      await transfer(t, async ({ network }) => {
        network.down('a')
        await sleep(CUT_MS)
        network.up('a', '10.77.0.22')
      })
    }),

    t.test('the recipient sleeps for longer than a silent peer is waited for', LIMIT, async (t) => {
      await transfer(t, async ({ receiver }) => {
        receiver.kill('SIGSTOP')
        await sleep(SLEEP_MS)
        receiver.kill('SIGCONT')
      })
    }),

    t.test('the sender sleeps for longer than a silent peer is waited for', LIMIT, async (t) => {
      await transfer(t, async ({ sender }) => {
        sender.kill('SIGSTOP')
        await sleep(SLEEP_MS)
        sender.kill('SIGCONT')
      })
    })
  ])
})

/** Sends a file and has `change` happen in the middle. */
async function transfer (t, change) {
  const network = new Network(t, ['hub', 'a', 'b'])
  network.limit('a', RATE)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'file', SIZE)
  const url = `http://${network.address('hub')}:8787`
  const on = (host, args) => cli(t, [...args, '--json'], { prefix: network.on(host) })
  const hub = on('hub', ['hub', '--open', '--listen', `${network.address('hub')}:8787`, '--data', path.join(folder, 'hub')])
  await hub.line('listening')
  const receiver = on('b', ['listen', '--ats-url', url, '--actor-id', 'b', '--save-dir', path.join(folder, 'in')])
  await receiver.line('connected')
  const sender = on('a', ['send', file.filePath, '--to', 'b', '--ats-url', url, '--actor-id', 'a'])
  await sender.moving()

  await change({ network, sender, receiver })
  const changed = performance.now()
  const limit = AbortSignal.timeout(LIMIT_MS)
  const tooLate = new Promise((resolve, reject) => limit.addEventListener('abort', () => reject(new Error('it did not end in time'))))
  const { code, stdout, stderr } = await Promise.race([sender.ended, tooLate])
  assert.equal(code, 0, stderr)
  t.diagnostic(`ended ${((performance.now() - changed) / 1000).toFixed(1)} s after the change`)
  const { filePath } = await receiver.line('transfer_complete')
  assert.equal(sha256(fs.readFileSync(filePath)), file.hash)
  const connections = stdout.split('\n').filter(line => JSON.parse(line).event === 'peer_connected').length
  t.diagnostic(`connections: ${connections}`)
}
