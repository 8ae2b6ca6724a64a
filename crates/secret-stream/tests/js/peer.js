// A secret stream that sends back every message it receives, and its end after the peer's.
// Prints one JSON object per line: what it knows once connected, errors, and that it closed.
const SecretStream = require('@hyperswarm/secret-stream')

const print = (object) => console.log(JSON.stringify(object))

const keyPairOf = (role) => SecretStream.keyPair(Buffer.alloc(32, role === 'initiator' ? 1 : 2))

function start(isInitiator, raw, keyPair) {
  const stream = new SecretStream(isInitiator, raw, { keyPair })
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

module.exports = { keyPairOf, print, start }
