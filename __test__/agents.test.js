'use strict'

// A short run of `npm run test:agents`.

const test = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { child } = require('./fixtures/harness')

const skip = fs.existsSync('/proc/self/status') ? false : 'what a process holds is read from /proc'

test('agents that send to each other for a while hold no more at its end', { timeout: 300_000, skip }, async (t) => {
  const { code, stdout, stderr } = await child(t, [path.join(__dirname, 'agents.js'), '--agents', '16', '--seconds', '12']).ended
  for (const line of stdout.split('\n')) t.diagnostic(line)
  assert.equal(code, 0, stdout + stderr)
})
