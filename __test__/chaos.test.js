'use strict'

// A short run of `npm run test:chaos`, and that a seed says the same twice.

const test = require('node:test')
const assert = require('node:assert/strict')
const { KINDS, plan } = require('./chaos/plan')
const { run } = require('./chaos/run')

const MB = 1024 * 1024

test('a seed plans the same twice, and another seed something else', () => {
  const planned = seed => plan({ seed, transfers: 50, largest: 500 * MB, kinds: Object.keys(KINDS) })
  assert.deepEqual(planned(7), planned(7))
  assert.notDeepEqual(planned(7), planned(8))
  const { transfers, interruptions } = planned(7)
  assert.equal(Math.max(...transfers.map(({ size }) => size)), 500 * MB)
  assert.ok(interruptions.length > 5)
})

test('whatever is killed, cut and filled, a transfer arrives whole or says why it did not', { timeout: 300_000 }, async (t) => {
  const { ok, summary, problems, folder } = await run({ seed: 2, transfers: 14, minutes: 0.5, largest: 30 * MB, say: text => t.diagnostic(text) })
  t.diagnostic(summary)
  assert.ok(ok, [...problems, `logs: ${folder}`].join('\n'))
})
