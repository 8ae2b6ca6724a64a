// A peer of npm hyperdht for the NAT lab, with the arguments and the words of
// crates/hyperdht/examples/natpeer.rs.
//   peer.js serve BOOTSTRAP [RELAY]
//   peer.js dial BOOTSTRAP KEY BYTES IDLE
const DHT = require('hyperdht')

const CHUNK = 64 * 1024
const ATTEMPTS = 3
const PATIENCE = 60_000

const [role, bootstrap, key, bytes, idle] = process.argv.slice(2)
process.stdin.on('end', () => process.exit(0)).resume()
if (role === 'serve') serve()
else dial()

function say (event) {
  process.stdout.write(JSON.stringify(event) + '\n')
}

async function node () {
  const nodes = bootstrap.split(',').map((host) => ({ host, port: 49737 }))
  const dht = new DHT({ bootstrap: nodes, port: 0 })
  await dht.fullyBootstrapped()
  return dht
}

async function serve () {
  const dht = await node()
  const relayThrough = key ? Buffer.from(key, 'hex') : null
  const server = dht.createServer({ relayThrough }, (stream) => {
    say({ event: 'connection' })
    stream.on('error', () => {})
    let left = null
    stream.on('data', (data) => {
      if (left === null) left = Number(data.readBigUInt64LE())
      else left -= data.length
      if (left > 0) return
      stream.write('ok')
      stream.end()
    })
  })
  await server.listen(DHT.keyPair())
  say({ event: 'ready', publicKey: server.publicKey.toString('hex') })
}

async function dial () {
  const dht = await node()
  const began = performance.now()
  const ms = () => Number((performance.now() - began).toFixed(1))
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const stream = dht.connect(Buffer.from(key, 'hex'))
    const error = await new Promise((resolve) => {
      stream.once('open', () => resolve(null))
      stream.once('error', resolve)
    })
    if (!error) return deliver(stream, ms, attempt)
    say({ event: 'failed', code: error.code, ms: ms() })
    if (ms() > PATIENCE) break
    await sleep(1000)
  }
  process.exit(0)
}

async function deliver (stream, ms, attempt) {
  say({ event: 'connected', ms: ms(), attempt, remote: stream.rawStream.remoteHost })
  stream.on('error', (error) => { say({ event: 'lost', code: error.code }); process.exit(0) })
  stream.on('data', (data) => {
    say({ event: 'delivered', ok: data.toString() === 'ok', ms: ms() })
    process.exit(0)
  })
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(bytes))
  stream.write(length)
  const half = Math.floor(Number(bytes) / 2)
  for (const [part, rest] of [[half, Number(idle)], [Number(bytes) - half, 0]]) {
    for (let left = part; left > 0; left -= CHUNK) stream.write(Buffer.alloc(Math.min(left, CHUNK), 7))
    await sleep(rest * 1000)
  }
}

function sleep (ms) {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
