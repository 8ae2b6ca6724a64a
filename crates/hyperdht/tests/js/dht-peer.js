// A process of npm hyperdht nodes that does what it is told: one JSON object a line in, one out.
'use strict'
const DHT = require('hyperdht')
const createTestnet = require('hyperdht/testnet')
const readline = require('node:readline')

const nodes = []
const testnets = []
let server = null

const hex = (buffer) => buffer.toString('hex')
const buf = (text) => Buffer.from(text, 'hex')
const node = (m) => nodes[m.node || 0]

const commands = {
  async testnet({ size, bootstrap = [] }) {
    const testnet = await createTestnet(size, { bootstrap: bootstrap.map(address) })
    testnets.push(testnet)
    return { bootstrap: testnet.bootstrap.map((b) => `${b.host}:${b.port}`) }
  },
  async node({ bootstrap, ...options }) {
    const dht = new DHT({ bootstrap, host: '127.0.0.1', port: 0, ...options })
    await dht.fullyBootstrapped()
    nodes.push(dht)
    return {
      ephemeral: dht.ephemeral,
      firewalled: dht.firewalled,
      host: dht.host,
      port: dht.port,
      known: dht.toArray().length
    }
  },
  async announce(m) {
    const keyPair = DHT.keyPair(buf(m.seed))
    const relays = m.relays || []
    const query = node(m).announce(buf(m.topic), keyPair, relays, { clear: m.clear, bump: m.bump })
    await query.finished()
    return { publicKey: hex(keyPair.publicKey), closest: query.closestNodes.length }
  },
  async unannounce(m) {
    await node(m).unannounce(buf(m.topic), DHT.keyPair(buf(m.seed)))
    return {}
  },
  async lookup(m) {
    const answers = []
    for await (const found of node(m).lookup(buf(m.topic))) {
      const peers = found.peers.map((p) => ({ publicKey: hex(p.publicKey), relays: p.relayAddresses }))
      answers.push({ from: found.from.port, peers, bump: found.bump })
    }
    return { answers }
  },
  async findNode(m) {
    const query = node(m).findNode(buf(m.target))
    await query.finished()
    return { closest: query.closestNodes.map((n) => n.port) }
  },
  async immutablePut(m) {
    const { hash, closestNodes } = await node(m).immutablePut(Buffer.from(m.value))
    return { hash: hex(hash), stored: closestNodes.length }
  },
  async immutableGet(m) {
    const found = await node(m).immutableGet(buf(m.hash))
    return { value: found && found.value.toString() }
  },
  async mutablePut(m) {
    const keyPair = DHT.keyPair(buf(m.seed))
    await node(m).mutablePut(keyPair, Buffer.from(m.value), { seq: m.seq })
    return { publicKey: hex(keyPair.publicKey) }
  },
  async mutableGet(m) {
    const found = await node(m).mutableGet(buf(m.publicKey), { seq: m.seq || 0 })
    return { seq: found && found.seq, value: found && found.value.toString() }
  },
  // A server that echoes.
  async serve(m) {
    server = node(m).createServer((stream) => {
      stream.on('error', () => {})
      stream.pipe(stream)
    })
    await server.listen()
    return { publicKey: hex(server.publicKey) }
  },
  async suspendServer() {
    await server.suspend()
    return {}
  },
  async resumeServer() {
    await server.resume()
    return {}
  },
  async closeServer() {
    await server.close()
    return {}
  },
  async findPeer(m) {
    const from = []
    for await (const found of node(m).findPeer(buf(m.publicKey))) from.push(found.from.port)
    return { from }
  },
  async dial(m) {
    const stream = node(m).connect(buf(m.publicKey))
    stream.write(m.message)
    return new Promise((resolve, reject) => {
      stream.on('error', reject)
      stream.on('data', (data) => {
        resolve({ echo: data.toString() })
        stream.destroy()
      })
    })
  },
  async ping({ to, ...m }) {
    const reply = await node(m).ping(address(to))
    return { id: reply.from.id && hex(reply.from.id) }
  },
  async exit() {
    for (const dht of nodes) await dht.destroy()
    for (const testnet of testnets.reverse()) await testnet.destroy()
    return {}
  }
}

function address(text) {
  const [host, port] = text.split(':')
  return { host, port: Number(port) }
}

const lines = readline.createInterface({ input: process.stdin })
// The one that started us has gone.
lines.on('close', () => process.exit())
lines.on('line', async (line) => {
  const message = JSON.parse(line)
  let answer
  try {
    answer = await commands[message.do](message)
  } catch (error) {
    answer = { error: error.message, code: error.code }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
})
