// A peer of npm hyperdht or hyperswarm for the tests in tests/connect. Prints one JSON object a
// line; ends with its standard input.
const crypto = require('crypto')
const DHT = require('hyperdht')
const Hyperswarm = require('hyperswarm')
const createTestnet = require('hyperdht/testnet.js')
const blindRelay = require('blind-relay')

const roles = { testnet, serve, dial, swarm, relay }
const [role, options = '{}'] = process.argv.slice(2)

process.stdin.on('end', () => process.exit(0)).resume()
process.on('unhandledRejection', (error) => say({ event: 'rejection', message: String(error) }))
roles[role](JSON.parse(options))

function say (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

// Ports are random: a network at the usual ones would be joined by nodes of the next test that
// remember them from the last.
async function testnet ({ size = 4 }) {
  const net = await createTestnet(1, { port: randomPort() })
  for (let i = 1; i < size; i++) {
    const node = net.createNode({ ephemeral: false, firewalled: false, port: randomPort() })
    await node.fullyBootstrapped()
  }
  say({ event: 'ready', bootstrap: net.bootstrap.map(({ host, port }) => `${host}:${port}`) })
}

// A blind relay.
async function relay ({ node = {} }) {
  const dht = createNode(node)
  const relay = new blindRelay.Server({ createStream: (options) => dht.createRawStream({ ...options, framed: true }) })
  const server = dht.createServer({ shareLocalAddress: false }, (stream) => {
    stream.on('error', () => {})
    const session = relay.accept(stream, { id: stream.remotePublicKey })
    session.on('error', () => {})
    session.on('pair', (isInitiator) => say({ event: 'pair', isInitiator }))
    session.on('close', () => say({ event: 'session closed' }))
  })
  await server.listen()
  say({ event: 'ready', publicKey: server.publicKey.toString('hex') })
}

// Echoes what its clients send.
async function serve ({ node = {}, refuse = false, relayThrough, server: options = {} }) {
  const dht = createNode(node)
  if (relayThrough) options.relayThrough = Buffer.from(relayThrough, 'hex')
  const server = dht.createServer({ ...options, firewall: () => refuse }, (stream) => {
    describe(dht, stream, false)
    echo(stream)
  })
  await server.listen(keyPair(node))
  say({ event: 'ready', publicKey: server.publicKey.toString('hex') })
}

// Sends random bytes and compares the echo.
async function dial ({ node = {}, publicKey, bytes = 1000, relayThrough, relayOnly = false, connect = {} }) {
  const dht = createNode(node)
  if (relayThrough) connect.relayThrough = Buffer.from(relayThrough, 'hex')
  if (relayOnly) Object.assign(connect, { localConnection: false, holepunch: () => false })
  const stream = dht.connect(Buffer.from(publicKey, 'hex'), { ...connect, keyPair: keyPair(node) })
  stream.on('open', () => describe(dht, stream, true))
  stream.on('error', (error) => say({ event: 'error', code: error.code }))
  stream.on('close', () => say({ event: 'close' }))
  const sent = crypto.createHash('sha256')
  const received = crypto.createHash('sha256')
  let left = bytes
  stream.on('data', (data) => {
    received.update(data)
    left -= data.length
    if (left > 0) return
    say({ event: 'echoed', same: sent.digest('hex') === received.digest('hex') })
    stream.end()
  })
  for (let rest = bytes; rest > 0; rest -= 65536) {
    const chunk = crypto.randomBytes(Math.min(rest, 65536))
    sent.update(chunk)
    if (!stream.write(chunk)) await new Promise((resolve) => stream.once('drain', resolve))
  }
}

// A swarm as an application makes it: it answers all, and dials `publicKey` if there is one.
async function swarm ({ bootstrap, publicKey }) {
  const swarm = new Hyperswarm({ bootstrap: addresses(bootstrap), port: randomPort() })
  swarm.on('connection', (stream) => {
    describe(swarm.dht, stream, stream.isInitiator)
    echo(stream)
  })
  await swarm.listen()
  if (publicKey) swarm.joinPeer(Buffer.from(publicKey, 'hex'))
  say({ event: 'ready', publicKey: swarm.keyPair.publicKey.toString('hex') })
}

function echo (stream) {
  stream.on('error', (error) => say({ event: 'error', code: error.code }))
  stream.on('close', () => say({ event: 'close' }))
  stream.on('data', (data) => stream.write(data))
  stream.on('end', () => stream.end())
}

function describe (dht, stream, isInitiator) {
  const raw = stream.rawStream
  const { serverSocket, clientSocket } = dht.io
  const socket = raw.socket === serverSocket ? 'server' : raw.socket === clientSocket ? 'client' : 'pool'
  say({
    event: 'connection',
    isInitiator,
    socket,
    remotePublicKey: stream.remotePublicKey.toString('hex'),
    handshakeHash: stream.handshakeHash.toString('hex')
  })
}

function randomPort () {
  return 10000 + crypto.randomInt(20000)
}

// `staysFirewalled`: on one machine a node may find out that it is reached by all.
// `opensWhilePunching`: it finds that out when it has said in a handshake that it is not. It gets and
// gives no answer to pings in its own network, so that punching is the only way.
function createNode ({ bootstrap, seed, staysFirewalled = false, opensWhilePunching = false, ...rest }) {
  const dht = new DHT({ bootstrap: addresses(bootstrap), port: randomPort(), ...rest })
  if (staysFirewalled || opensWhilePunching) dht._checkIfFirewalled = async () => true
  if (opensWhilePunching) openWhilePunching(dht)
  return dht
}

function openWhilePunching (dht) {
  const acquire = dht._socketPool.acquire.bind(dht._socketPool)
  dht._socketPool.acquire = () => {
    dht.firewalled = dht.io.firewalled = false
    return acquire()
  }
  // Those of a puncher belong to a session.
  const ping = dht.ping.bind(dht)
  dht.ping = (to, options) => options ? ping(to, options) : new Promise(() => {})
  const onrequest = dht.io.onrequest
  dht.io.onrequest = (request, external) => {
    const isPing = request.internal && request.command === 0
    if (!isPing) onrequest(request, external)
  }
}

function addresses (list) {
  return list.map((node) => ({ host: node.split(':')[0], port: Number(node.split(':')[1]) }))
}

function keyPair ({ seed }) {
  return DHT.keyPair(seed ? Buffer.from(seed, 'hex') : undefined)
}
