// As tcp-peer.js, over a UDX stream of npm's udx-native with id 1, connected to our stream 2.
// Arguments: role (initiator | responder), our port. Prints its own port first.
const UDX = require('udx-native')
const { keyPairOf, print, start } = require('./peer')

const [role, port] = process.argv.slice(2)
const udx = new UDX()
const socket = udx.createSocket()
socket.bind(0, '127.0.0.1')
const raw = udx.createStream(1, { framed: true })
raw.connect(socket, 2, Number(port), '127.0.0.1')
raw.on('close', () => socket.close())
print({ port: socket.address().port })
start(role === 'initiator', raw, keyPairOf(role))
