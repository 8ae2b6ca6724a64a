// Peers of npm hyperswarm. One JSON object a line in (a command) and out (an event); ends with its input.
// Arguments: role (testnet | swarm | pair), options as JSON.
'use strict'
const Hyperswarm = require('hyperswarm')
const DHT = require('hyperdht')
const createTestnet = require('hyperdht/testnet')
const readline = require('node:readline')

const hex = (buffer) => buffer.toString('hex')
const buf = (text) => Buffer.from(text, 'hex')
const say = (event, fields = {}) => process.stdout.write(JSON.stringify({ event, ...fields }) + '\n')
const commands = readline.createInterface({ input: process.stdin })
commands.on('close', () => process.exit(0))
process.on('unhandledRejection', (error) => say('rejection', { message: String(error) }))

const roles = { testnet, swarm, pair }
const [role, options] = process.argv.slice(2)
roles[role](JSON.parse(options))

async function testnet({ size }) {
  const net = await createTestnet(size)
  say('ready', { bootstrap: net.bootstrap.map(({ host, port }) => `${host}:${port}`) })
}

// A swarm that sends back what it receives. `topic` to join in the roles `server` and `client`, `peer` to
// join by key. `redirect`: streams to the port `from` go to the port `to`.
async function swarm({ bootstrap, seed, topic, server, client, peer, refuse, redirect }) {
  const dht = new DHT({ bootstrap: addresses(bootstrap), host: '127.0.0.1' })
  await dht.fullyBootstrapped()
  if (redirect) redirectStreams(dht, redirect)
  const swarm = new Hyperswarm({ dht, seed: buf(seed), firewall: () => Boolean(refuse) })
  const sessions = []
  swarm.on('connection', (stream, info) => {
    const remotePublicKey = hex(stream.remotePublicKey)
    say('connection', {
      remotePublicKey,
      isInitiator: stream.isInitiator,
      topics: info.topics.map(hex)
    })
    stream.on('error', (error) => say('error', { message: error.message, code: error.code }))
    stream.on('close', () => say('close', { remotePublicKey }))
    stream.pipe(stream)
  })
  say('bound', { ports: [dht.io.serverSocket.address().port, dht.io.clientSocket.address().port] })
  if (topic) {
    sessions.push(swarm.join(buf(topic), { server, client }))
    await sessions[0].flushed()
  } else {
    await swarm.listen()
  }
  if (peer) swarm.joinPeer(buf(peer))
  say('joined', { publicKey: hex(swarm.keyPair.publicKey) })
  commands.on('line', async (line) => {
    const { command } = JSON.parse(line)
    if (command === 'refresh') await sessions[0].refresh()
    if (command === 'destroy') await swarm.destroy().then(() => say('destroyed'))
  })
}

// Two swarms that find each other on a topic, and speak.
async function pair({ bootstrap, topic }) {
  const swarms = [0, 1].map(() => {
    const dht = new DHT({ bootstrap: addresses(bootstrap), host: '127.0.0.1' })
    return new Hyperswarm({ dht })
  })
  const met = swarms.map(
    (swarm, index) =>
      new Promise((resolve) =>
        swarm.on('connection', (stream) => {
          stream.on('error', () => {})
          stream.on('data', (message) => resolve(message.toString()))
          stream.write(`from ${index}`)
        })
      )
  )
  await swarms[0].join(buf(topic), { server: true, client: false }).flushed()
  swarms[1].join(buf(topic), { server: false, client: true })
  say('met', { messages: await Promise.all(met) })
  await Promise.all(swarms.map((swarm) => swarm.destroy()))
  say('destroyed')
}

// Also keeps both sides from finding a way past whoever stands at `to`. The peer at `from` is not asked for a
// handshake directly: it would answer, and then send, to where it was asked from. Neither side names its addresses
// on this machine to the other, nor this one a public one, so that the peer waits until it is called from here.
function redirectStreams(dht, { from, to }) {
  const dial = dht.connect.bind(dht)
  dht.connect = (key, options) => {
    const relayAddresses = options.relayAddresses?.filter(({ port }) => port !== from)
    return dial(key, { ...options, relayAddresses, localConnection: false })
  }
  const createServer = dht.createServer.bind(dht)
  dht.createServer = (options, onconnection) =>
    createServer({ ...options, shareLocalAddress: false }, onconnection)
  dht.remoteAddress = () => null
  const createRawStream = dht.createRawStream.bind(dht)
  dht.createRawStream = (options) => {
    const stream = createRawStream(options)
    const connect = stream.connect.bind(stream)
    stream.connect = (socket, id, port, host) => connect(socket, id, port === from ? to : port, host)
    return stream
  }
}

function addresses(list) {
  return list.map((node) => ({ host: node.split(':')[0], port: Number(node.split(':')[1]) }))
}
