'use strict'

// Peers behind NATs find each other: a few of the cases of `npm run test:nat`, those that take no
// longer than a few seconds.

const assert = require('node:assert')
const fs = require('node:fs')
const { describe, test } = require('node:test')
const { Lab, unavailable } = require('../tests/natlab/lab')
const { NATPEER, connect } = require('../tests/natlab/table')

const reason = unavailable() ?? (fs.existsSync(NATPEER) ? null : 'npm run test:rust builds the peer')
const CONE = { a: ['cone'], b: ['cone'] }
const CONE_AND_SYMMETRIC = { a: ['cone'], b: ['symmetric'] }
const CASES = [
  ['a hole is punched between two NATs', CONE, 'ours:ours', 'punched'],
  ['a JavaScript client punches to us', CONE, 'ours:js', null],
  ['a JavaScript server is punched to', CONE, 'js:ours', 'punched'],
  ['the port of a random NAT is guessed', CONE_AND_SYMMETRIC, 'ours:ours', 'punched'],
  ['the port of a JavaScript client behind one is', CONE_AND_SYMMETRIC, 'ours:js', null],
  ['peers of one network need no hole', { shared: ['cone'] }, 'ours:ours', 'lan']
]

describe('NATs', { skip: reason ?? false }, () => {
  for (const [name, kinds, peers, path] of CASES) {
    test(name, { timeout: 120_000 }, async () => {
      const lab = await Lab.up(kinds)
      try {
        const result = await connect(lab, peers)
        assert.strictEqual(result.delivered, true, JSON.stringify(result))
        assert.strictEqual(result.path ?? null, path)
      } finally {
        await lab.down()
      }
    })
  }
})
