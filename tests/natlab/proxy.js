// A proxy of the web for the NAT lab: its options come as JSON in the first argument.
const { startProxy } = require('../../__test__/fixtures/proxy')

startProxy(JSON.parse(process.argv[2])).then(() => process.stdout.write('{"event":"listening"}\n'))
process.stdin.on('end', () => process.exit(0)).resume()
