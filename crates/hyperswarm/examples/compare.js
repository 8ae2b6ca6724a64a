// What compare.rs measures, on npm hyperdht and hyperswarm: one JSON object on stdout.
'use strict'
const DHT = require('hyperdht')
const Hyperswarm = require('hyperswarm')
const { randomBytes } = require('node:crypto')

const [nodes, lookups, joins] = process.argv.slice(2).map(Number)
const host = '127.0.0.1'
// A testnet of its own ports: others that ran lately still have those from 49737 on in their tables.
const port = () => 20000 + Math.floor(Math.random() * 40000)

async function testnet (size) {
  const first = new DHT({ ephemeral: false, firewalled: false, bootstrap: [], port: port(), host })
  await first.fullyBootstrapped()
  const all = [first]
  while (all.length < size) {
    const options = { ephemeral: false, firewalled: false, bootstrap: bootstrap(all), port: port(), host }
    const node = new DHT(options)
    await node.fullyBootstrapped()
    all.push(node)
  }
  return all
}

const bootstrap = (all) => [{ host, port: all[0].address().port }]
const sent = ({ stats: { requests } }) => requests.total + requests.retries
const node = (all) => new DHT({ bootstrap: bootstrap(all), port: port(), host })

async function cost (client, times, action) {
  let total = 0
  for (let i = 0; i < times; i++) {
    const before = sent(client)
    await action()
    total += sent(client) - before
  }
  return total / times
}

async function join (all, warm) {
  const topic = randomBytes(32)
  const server = new Hyperswarm({ dht: node(all) })
  server.on('connection', (connection) => connection.on('error', () => {}))
  await server.join(topic, { client: false, server: true }).flushed()
  const dht = node(all)
  if (warm) await dht.fullyBootstrapped()
  const client = new Hyperswarm({ dht })
  const start = performance.now()
  const connected = new Promise((resolve) => client.once('connection', (connection) => {
    connection.on('error', () => {})
    resolve(performance.now() - start)
  }))
  client.join(topic, { client: true, server: false })
  const took = await connected
  await client.destroy()
  await server.destroy()
  return took
}

async function series (all, warm) {
  const times = []
  for (let i = 0; i < joins; i++) times.push(await join(all, warm))
  return times
}

async function main () {
  const all = await testnet(nodes)
  const client = node(all)
  await client.fullyBootstrapped()
  const keys = DHT.keyPair()
  const result = {
    findNode: await cost(client, lookups, () => client.findNode(randomBytes(32)).finished()),
    findPeer: await cost(client, lookups, () => client.findPeer(randomBytes(32)).finished()),
    lookup: await cost(client, lookups, () => client.lookup(randomBytes(32)).finished()),
    announce: await cost(client, lookups, () => client.announce(randomBytes(32), keys, []).finished()),
    warm: await series(all, true),
    cold: await series(all, false)
  }
  console.log(JSON.stringify(result))
  process.exit(0)
}

main()
