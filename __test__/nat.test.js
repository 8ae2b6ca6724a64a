'use strict'

// Peers behind NATs find each other: a few of the cases of `npm run test:nat`, those that take no
// longer than a few seconds.

const assert = require('node:assert')
const fs = require('node:fs')
const { describe, test } = require('node:test')
const { between } = require('../tests/natlab/kinds')
const { Lab, unavailable } = require('../tests/natlab/lab')
const { deliver, examine, noCertificates } = require('../tests/natlab/product')
const { NATPEER, connect } = require('../tests/natlab/table')

const noLab = unavailable()
const reason = noLab ?? (fs.existsSync(NATPEER) ? null : 'npm run test:rust builds the peer')
const noProduct = noLab ?? noCertificates
const CONE = between('cone', 'cone')
const CONE_AND_SYMMETRIC = between('cone', 'symmetric')
// Of what is sent while a direct way opens.
const HALF = 10_000_000
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

describe('files between NATs', { skip: noProduct ?? false }, () => {
  const CASES = [
    ['go through the hub where no hole can be punched', between('symmetric', 'symmetric'), ['relayed']],
    // Its relay and its tunnel open at about the same time then.
    ['go through the hub where UDP is blocked between peers that say they are open', { blocked: true }, ['relayed', 'tunnel']],
    ['go through the hub between two homes behind one carrier that does not hairpin', { shared: ['carrier'], ...CONE }, ['relayed', 'tunnel']],
    ['go through a hole where one can be', CONE, ['punched']],
    ['go through a hole in a carrier\'s NAT and a home\'s', between('carrier', 'carrier'), ['punched']],
    ['go in small packets where the recipient\'s link carries no others', { ...CONE, b: ['mtu-1000'] }, ['punched']],
    ['go in small packets where routers drop others without a word', between('MTU 576, silent', 'cone'), ['punched']],
    ['go through the tunnel of the hub where no UDP gets out of the recipient\'s', between('cone', 'no UDP'), ['tunnel']],
    ['go through it where none gets out of the sender\'s', between('no UDP', 'symmetric'), ['tunnel']],
    ['go through it where nothing gets out but to port 443', between('443 only', 'open'), ['tunnel']],
    ['go through it and proxies, of which one asks for a password and one reads all', between('proxy, password', 'proxy, own CA'), ['tunnel']],
    ['go through it from IPv6 alone to IPv4 alone', between('IPv6 alone', 'cone'), ['tunnel']],
    ['go through it where there is no IPv4 at all', between('IPv6 alone', 'IPv6 alone'), ['tunnel']]
  ]
  for (const [name, kinds, paths] of CASES) {
    test(name, { timeout: 120_000 }, async (t) => {
      const lab = await Lab.up(kinds)
      try {
        const result = await deliver(lab, { bytes: 3_000_000 })
        assert.ok(result.delivered && paths.includes(result.path), JSON.stringify(result))
        t.diagnostic(`delivered in ${Math.round(result.ms)} ms`)
      } finally {
        await lab.down()
      }
    })
  }

  test('go through the tunnel where no UDP gets out at either end, the second on the connection of the first', { timeout: 120_000 }, async (t) => {
    const lab = await Lab.up(between('no UDP', 'no UDP'))
    try {
      const { delivered, path, connects, ...rest } = await deliver(lab, { bytes: 3_000_000, files: 2 })
      assert.ok(delivered && path === 'tunnel', JSON.stringify({ path, ...rest }))
      t.diagnostic(`connected ${connects.map((ms) => Math.round(ms)).join(' and ')} ms after the offers`)
    } finally {
      await lab.down()
    }
  })
})

test('the doctor says that a peer is reached through the relay alone', { skip: noProduct ?? false, timeout: 120_000 }, async () => {
  const lab = await Lab.up(between('symmetric', 'symmetric'))
  try {
    const { peer, nat, exit } = await examine(lab)
    assert.deepStrictEqual([peer.status, peer.facts?.path], ['warning', 'relayed'], JSON.stringify(peer))
    assert.match(peer.found, /only through the relay at 45\.0\.0\.1:/)
    assert.match(peer.advice, /nothing but ciphertext/)
    assert.deepStrictEqual([nat.status, nat.facts.kind], ['warning', 'random'])
    assert.match(nat.advice, /the relay alone/)
    assert.strictEqual(exit.code, 0)
  } finally {
    await lab.down()
  }
})

describe('a stream moves from its relay to a direct way that opens', { skip: reason ?? false, concurrency: true }, () => {
  for (const peers of ['ours:ours', 'js:ours', 'ours:js']) {
    test(peers, { timeout: 120_000 }, async () => {
      const lab = await Lab.up({ ...CONE, blocked: true })
      try {
        let relay
        const connected = (nodes) => {
          relay = nodes
          return lab.unblock()
        }
        const result = await connect(lab, peers, { relay: true, bytes: 2 * HALF, idle: 6, connected })
        assert.strictEqual(result.delivered, true, JSON.stringify(result))
        if (peers.endsWith('ours')) assert.deepStrictEqual([result.path, result.lastPath], ['relayed', 'punched'])
        assert.strictEqual((await relay.next(['pairs'], 1000)).pairs, 1)
        const end = await relay.next(['pairs'], 1000)
        assert.strictEqual(end.pairs, 0)
        assert.ok(end.bytes < 1.5 * HALF, `${end.bytes} bytes went through the relay`)
      } finally {
        await lab.down()
      }
    })
  }
})
