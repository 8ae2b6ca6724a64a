'use strict'

// Many ends at a hub's tunnel that prove nothing, all of one client of a proxy. They read nothing, and every other one
// sends pings. Whoever is closed comes again, for as long as this runs.

const { randomBytes } = require('node:crypto')
const http = require('node:http')

const AT_ONCE = 250
/** How long an answer may take. */
const PATIENCE_MS = 5000
/** Pings of 125 bytes as a client sends them. */
const PINGS = Buffer.concat(Array.from({ length: 20 }, () => Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)])))

let sendsPings = false

async function main () {
  const { url, count, proxy, client } = JSON.parse(process.env.AMOUNTS_ENDS)
  process.on('disconnect', () => process.exit())
  const ends = { opened: 0, refused: 0 }
  let begun = 0
  const come = async () => {
    while (begun++ < count) ends[await open(url, proxy, client)]++
  }
  await Promise.all(Array.from({ length: AT_ONCE }, come))
  process.send({ event: 'dialled', ...ends })
  // And on, as many at once.
  for (;;) await Promise.all(Array.from({ length: AT_ONCE }, () => open(url, proxy, client)))
}

function open (url, localAddress, client) {
  const [key, peer] = [randomBytes(32), randomBytes(32)].map(bytes => bytes.toString('hex'))
  const headers = {
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': randomBytes(16).toString('base64'),
    'x-forwarded-for': client
  }
  return new Promise((resolve) => {
    const request = http.get(`${url}/p2p/tunnel?key=${key}&peer=${peer}`, { headers, localAddress, agent: false, timeout: PATIENCE_MS })
    request.on('response', response => { response.resume(); resolve('refused') })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve('refused'))
    request.on('upgrade', (_, socket) => {
      socket.on('error', () => {}).pause()
      if (sendsPings = !sendsPings) socket.write(PINGS)
      resolve('opened')
    })
  })
}

main()
