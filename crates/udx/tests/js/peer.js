// One udx-native stream, driven by lines on stdin; answers with JSON lines on stdout.
//
//   {"listen": {"id": 1, "firewall": "accept"}}   -> {"port": 4711}
//   {"connect": {"id": 2, "port": 4712, "keepalive": 50}}
//   {"write": 1000000}        writes the pattern from where it stopped
//   {"end": true}
//   {"destroy": true}
//   {"changeRemote": {"id": 2, "port": 4713}}  -> {"changed": true}
//   {"message": "text"}
//
// Unasked: {"from": port, "raw": hex} for datagrams of no stream, {"received": n, "intact": true} at the peer's end, {"message": "text"}, {"error": code}, {"close": {...}}

const UDX = require('udx-native')
const { createInterface } = require('readline')

const PATTERN = pattern()
const udx = new UDX()
const socket = udx.createSocket()
let stream = null
let written = 0
let received = 0
let intact = true

// Datagrams of no stream tell where they came from.
socket.on('message', (data, { port }) => say({ from: port, raw: data.toString('hex') }))

// Commands run one after the other; a move to another address is awaited only by who asked for it.
let last = Promise.resolve()
createInterface({ input: process.stdin }).on('line', (line) => {
  for (const [name, value] of Object.entries(JSON.parse(line))) last = last.then(() => commands[name](value))
})

const commands = {
  listen({ id, firewall, framed, receiveBuffer }) {
    socket.bind(0, '127.0.0.1')
    if (receiveBuffer) socket.setRecvBufferSize(receiveBuffer)
    stream = udx.createStream(id, { framed, firewall: () => firewall !== 'accept' })
    stream.on('data', (data) => {
      const start = received % PATTERN.length
      const end = start + data.length
      const expected =
        end <= PATTERN.length
          ? PATTERN.subarray(start, end)
          : Buffer.concat([PATTERN.subarray(start), PATTERN.subarray(0, end - PATTERN.length)])
      if (end - PATTERN.length > PATTERN.length || !data.equals(expected)) intact = false
      received += data.length
    })
    stream.on('end', () => say({ received, intact }))
    stream.on('message', (data) => say({ message: data.toString() }))
    stream.on('error', (error) => say({ error: error.code }))
    stream.on('close', () => {
      say({ close: { mtu: stream.mtu, retransmits: stream.retransmits, rtos: stream.rtoCount } })
      socket.close()
    })
    say({ port: socket.address().port })
  },
  connect({ id, port, keepalive }) {
    stream.connect(socket, id, port, '127.0.0.1')
    if (keepalive) stream.setKeepalive(keepalive)
  },
  async write(bytes) {
    const until = written + bytes
    while (written < until) {
      const start = written % PATTERN.length
      const data = PATTERN.subarray(start, Math.min(start + 65536, PATTERN.length, start + until - written))
      written += data.length
      if (!stream.write(data)) await new Promise((resolve) => stream.once('drain', resolve))
    }
    say({ written })
  },
  end() {
    stream.end()
  },
  destroy() {
    stream.destroy()
  },
  changeRemote({ id, port }) {
    // Nothing is returned where nothing is on its way any more.
    Promise.resolve(stream.changeRemote(socket, id, port, '127.0.0.1')).then(
      () => say({ changed: true }),
      (error) => say({ changed: false, error: error.message })
    )
  },
  message(text) {
    stream.trySend(Buffer.from(text))
  }
}

function say(value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

// The same bytes as in tests/common/pattern.rs: a prime length, so that no packet size divides it.
function pattern() {
  const bytes = Buffer.alloc(1000003)
  let x = 1
  for (let i = 0; i < bytes.length; i++) {
    x = (Math.imul(x, 1103515245) + 12345) >>> 0
    bytes[i] = x >>> 16
  }
  return bytes
}
