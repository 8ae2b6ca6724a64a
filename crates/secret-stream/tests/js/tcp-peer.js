// One end of a secret stream over TCP; see peer.js for what it does.
// Arguments: role (initiator | responder), port to connect to (initiator). A responder prints its port first.
const net = require('net')
const { keyPairOf, print, start } = require('./peer')

const [role, port] = process.argv.slice(2)

if (role === 'initiator') {
  start(true, net.connect(Number(port), '127.0.0.1'), keyPairOf(role))
} else {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    server.close()
    start(false, socket, keyPairOf(role))
  })
  server.listen(0, '127.0.0.1', () => print({ port: server.address().port }))
}
