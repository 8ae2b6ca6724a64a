'use strict'

// A short run of `npm run test:growth`.

const test = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { child } = require('./fixtures/harness')

test('nodes and transfers leave nothing behind in their process', { timeout: 300_000 }, async (t) => {
  const { code, stdout, stderr } = await child(t, ['--expose-gc', path.join(__dirname, 'growth.js'), '--nodes', '30', '--transfers', '160']).ended
  for (const line of stdout.split('\n')) t.diagnostic(line)
  assert.equal(code, 0, stdout + stderr)
})
