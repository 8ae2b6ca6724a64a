'use strict'

// Ours and a peer of the original's kind, each way, on a JavaScript DHT and on the hub's.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const createTestnet = require('hyperdht/testnet')
const { startHub } = require('..')
const { TYPE, frame } = require('./fixtures/frames')
const { bootstrapNodes, contents, defer, failure, makeFile, nextOffer, node, phases, tempFolder } = require('./fixtures/harness')
const { OriginalPeer } = require('./fixtures/original-peer')

const JOINS = {
  server: { server: true, client: false },
  client: { server: false, client: true },
  both: { server: true, client: true }
}
const SPLITS = ['plain', 'bytes', 'headers', 'merged']
const LIMIT = { timeout: 90_000 }
const SIZE = 3_000_001
const TESTNET = 'hyperdht/testnet'

for (const network of [TESTNET, "the hub's DHT"]) {
  describe(`with the original on ${network}`, { timeout: 300_000, concurrency: 4 }, () => {
    let data
    let service
    let testnet
    let addresses

    before(async () => {
      data = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-'))
      service = await startHub({ listen: '127.0.0.1:0', data })
      addresses = service.bootstrap
      if (network === TESTNET) {
        testnet = await createTestnet(4)
        addresses = testnet.bootstrap.map(({ host, port }) => `${host}:${port}`)
      }
    })

    after(async () => {
      await testnet?.destroy()
      await service.close()
      fs.rmSync(data, { recursive: true, force: true })
    })

    let actors = 0

    /** A node of ours and an original, strangers to every other test on this network. */
    async function pair (t, { join = 'both', split = 'plain', ...options } = {}) {
      const number = ++actors
      const ours = await node(t, service.url, `ours-${number}`, { bootstrap: addresses, ...options })
      return { ours, oursId: `ours-${number}`, ...original(t, `original-${number}`, join, split) }
    }

    function original (t, actorId, join = 'both', split = 'plain') {
      const theirs = new OriginalPeer({
        atsUrl: service.url,
        actorId,
        bootstrap: bootstrapNodes(addresses),
        join: JOINS[join],
        split,
        // On the loopback interface alone, and on all of them as npm hyperswarm binds by itself.
        host: network === TESTNET ? '127.0.0.1' : '0.0.0.0'
      })
      defer(t, () => theirs.close())
      return { theirs, theirsId: actorId }
    }

    for (const join of Object.keys(JOINS)) {
      test(`ours sends, the original joins as ${join}`, LIMIT, async (t) => {
        const folder = tempFolder(t)
        const { ours, theirs, theirsId } = await pair(t, { join })
        const file = makeFile(folder, 'file.bin', SIZE)
        fs.mkdirSync(path.join(folder, 'in'))
        const received = theirs.receive({ saveDir: path.join(folder, 'in') })
        const seen = phases(ours)
        const sent = await ours.send({ filePath: file.filePath, recipientId: theirsId })
        assert.equal(sent.success, true)
        const [{ filePath, hash }] = await received
        assert.equal(hash, file.hash)
        assert.deepEqual(fs.readFileSync(filePath), file.bytes)
        assert.deepEqual(seen(), ['hashing', 'waiting', 'connecting', 'transferring', 'verifying'])
      })

      for (const split of join === 'both' ? SPLITS : SPLITS.slice(1, 3)) {
        test(`ours receives, the original joins as ${join} and cuts its writes the way "${split}"`, LIMIT, async (t) => {
          const folder = tempFolder(t)
          const { ours, oursId, theirs } = await pair(t, { join, split })
          const file = makeFile(folder, 'file.bin', SIZE)
          ours.watch()
          const sent = theirs.send({ filePath: file.filePath, recipientId: oursId })
          const seen = phases(ours)
          const offer = await nextOffer(ours)
          const result = await offer.accept(path.join(folder, 'copy.bin'))
          assert.equal(result.hash, file.hash)
          assert.deepEqual(fs.readFileSync(result.filePath), file.bytes)
          assert.deepEqual(seen(), ['waiting', 'connecting', 'transferring', 'verifying'])
          await sent
        })
      }
    }

    for (const size of [0, 1, 65_535, 65_536, 65_537]) {
      test(`${size} bytes, there and back`, LIMIT, async (t) => {
        const folder = tempFolder(t)
        const { ours, oursId, theirs, theirsId } = await pair(t, { split: 'bytes' })
        const file = makeFile(folder, 'файл 1.bin', size)
        fs.mkdirSync(path.join(folder, 'in'))
        const [, [received]] = await Promise.all([
          ours.send({ filePath: file.filePath, recipientId: theirsId }),
          theirs.receive({ saveDir: path.join(folder, 'in') })
        ])
        ours.watch({ saveDir: path.join(folder, 'back') })
        const [[back]] = await Promise.all([
          once(ours, 'transfer_complete'),
          theirs.send({ filePath: received.filePath, recipientId: oursId })
        ])
        assert.equal(path.basename(back.filePath), 'файл 1.bin')
        assert.deepEqual(fs.readFileSync(back.filePath), file.bytes)
      })
    }

    test('one node of ours sends two files at once to two originals', LIMIT, async (t) => {
      const folder = tempFolder(t)
      const { ours, theirs, theirsId } = await pair(t)
      const second = original(t, `${theirsId}-second`)
      const transfers = [[theirs, theirsId], [second.theirs, second.theirsId]].map(async ([peer, id], i) => {
        const saveDir = path.join(folder, `in-${i}`)
        fs.mkdirSync(saveDir)
        const file = makeFile(folder, `${i}.bin`, SIZE + i)
        const [, [{ filePath }]] = await Promise.all([
          ours.send({ filePath: file.filePath, recipientId: id }),
          peer.receive({ saveDir })
        ])
        assert.deepEqual(fs.readFileSync(filePath), file.bytes)
      })
      await Promise.all(transfers)
    })

    test('two files at once to one original, which has one swarm for both', LIMIT, async (t) => {
      const folder = tempFolder(t)
      const { ours, theirs, theirsId } = await pair(t)
      const files = [makeFile(folder, '0.bin', SIZE), makeFile(folder, '1.bin', SIZE + 1)]
      fs.mkdirSync(path.join(folder, 'in'))
      await Promise.all([
        ...files.map(({ filePath }) => ours.send({ filePath, recipientId: theirsId })),
        theirs.receive({ saveDir: path.join(folder, 'in'), count: 2 })
      ])
      for (const { filePath, bytes } of files) {
        assert.deepEqual(fs.readFileSync(path.join(folder, 'in', path.basename(filePath))), bytes)
      }
    })

    // What a peer does wrong on a connection is the same on every network.
    if (network === TESTNET) return

    const BAD_SENDERS = {
      'one bit is wrong': ['INTEGRITY', async function * (frames) {
        let changed = false
        for await (const bytes of frames) {
          if (bytes[0] === TYPE.DATA && !changed) {
            bytes[100] ^= 1
            changed = true
          }
          yield bytes
        }
      }],
      'one byte too many': ['INTEGRITY', async function * (frames) {
        for await (const bytes of frames) {
          if (bytes[0] === TYPE.DONE) yield frame(TYPE.DATA, Buffer.from('!'))
          yield bytes
        }
      }],
      'it ends too early': ['INTEGRITY', async function * (frames) {
        for await (const bytes of frames) {
          yield bytes
          if (bytes[0] === TYPE.DATA) break
        }
        yield frame(TYPE.DONE)
      }],
      'META names another size': ['INTEGRITY', async function * (frames) {
        for await (const bytes of frames) {
          yield bytes[0] === TYPE.META ? frame(TYPE.META, Buffer.from('{"name":"file.bin","size":5,"hash":"00"}')) : bytes
        }
      }],
      'a frame of 4 GiB': ['PROTOCOL', async function * (frames) {
        yield Buffer.from([TYPE.META, 0xff, 0xff, 0xff, 0xff])
        yield Buffer.alloc(100_000)
      }],
      'frames of unknown types': ['PROTOCOL', async function * (frames) {
        yield frame(99, Buffer.from('hello'))
        yield * frames
      }],
      'it vanishes half way': ['PEER_UNREACHABLE', async function * (frames) {
        let sent = 0
        for await (const bytes of frames) {
          yield bytes
          if ((sent += bytes.length) > SIZE / 2) throw new Error('gone')
        }
      }]
    }

    for (const [name, [code, tamper]] of Object.entries(BAD_SENDERS)) {
      test(`an original that sends badly: ${name}`, LIMIT, async (t) => {
        const folder = tempFolder(t)
        const { ours, oursId, theirs } = await pair(t, { timeout: 3000 })
        const file = makeFile(folder, 'file.bin', SIZE)
        const saveDir = path.join(folder, 'in')
        fs.mkdirSync(saveDir)
        ours.watch()
        const sent = theirs.send({ filePath: file.filePath, recipientId: oursId, tamper, timeout: 20_000 })
        sent.catch(() => {})
        const offer = await nextOffer(ours)
        await assert.rejects(offer.accept(path.join(saveDir, 'copy.bin')), failure(code))
        assert.deepEqual(contents(saveDir), [])
        assert.equal((await theirs.ats.get(offer.task.id)).status, 'failed')
        await theirs.close()
        await assert.rejects(sent)
      })
    }

    const BAD_RECEIVERS = {
      'it declines with NACK': ['REMOTE_ERROR', async ({ connection, type }) => {
        if (type !== TYPE.DONE) return
        connection.write(frame(TYPE.NACK, Buffer.from('no thanks')))
        await connection.flush()
        throw new Error('declined')
      }],
      'it acknowledges before the end': ['PROTOCOL', async ({ connection, type }) => {
        if (type !== TYPE.META) return
        connection.write(frame(TYPE.ACK))
        await connection.flush()
        throw new Error('done, it says')
      }],
      'it vanishes half way': ['PEER_UNREACHABLE', ({ size }) => { if (size > SIZE / 2) throw new Error('gone') }],
      'it answers with nonsense': ['PROTOCOL', async ({ connection }) => {
        connection.write(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'))
        await connection.flush()
        throw new Error('what is this?')
      }]
    }

    for (const [name, [code, onframe]] of Object.entries(BAD_RECEIVERS)) {
      test(`an original that receives badly: ${name}`, LIMIT, async (t) => {
        const folder = tempFolder(t)
        const { ours, theirs, theirsId } = await pair(t, { timeout: 3000 })
        const file = makeFile(folder, 'file.bin', SIZE)
        fs.mkdirSync(path.join(folder, 'in'))
        const received = theirs.receive({ saveDir: path.join(folder, 'in'), onframe, timeout: 20_000 })
        received.catch(() => {})
        await assert.rejects(ours.send({ filePath: file.filePath, recipientId: theirsId }), failure(code))
        await theirs.close()
        await assert.rejects(received)
      })
    }
  })
}
