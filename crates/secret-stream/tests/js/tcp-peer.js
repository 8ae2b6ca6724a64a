// One end of a secret stream over TCP that sends back every message it receives, and its end after the peer's.
// Arguments: role (initiator | responder), port (0: any). Prints one JSON object per line: what it knows.
const net = require('net')
const SecretStream = require('@hyperswarm/secret-stream')

const [role, port] = process.argv.slice(2)
const keyPair = SecretStream.keyPair(Buffer.alloc(32, role === 'initiator' ? 1 : 2))
const print = (object) => console.log(JSON.stringify(object))

if (role === 'initiator') {
  start(true, net.connect(Number(port), '127.0.0.1'))
} else {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    server.close()
    start(false, socket)
  })
  server.listen(0, '127.0.0.1', () => print({ port: server.address().port }))
}

function start(isInitiator, socket) {
  const stream = new SecretStream(isInitiator, socket, { keyPair })
  stream.on('connect', () =>
    print({
      handshakeHash: stream.handshakeHash.toString('hex'),
      remotePublicKey: stream.remotePublicKey.toString('hex')
    })
  )
  stream.on('data', (message) => stream.write(message))
  stream.on('end', () => stream.end())
  stream.on('error', (error) => print({ error: error.message }))
  stream.on('close', () => print({ closed: true }))
}
