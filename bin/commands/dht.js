'use strict'

module.exports = {
  summary: 'Run a node of the DHT for others',
  saysGoodbye: true,
  flags: {
    port: { value: 'N', help: 'UDP port, 0 for any (49737, or one of the next four)' },
    host: { value: 'IP', help: 'IPv4 address it is bound to (all)' },
    bootstrap: { value: 'HOST:PORT,…', help: 'nodes of the network it joins (none: it is the first of its own)' }
  },
  examples: [
    ['ats-p2p dht --host 192.0.2.7', 'The first node of a private network'],
    ['ats-p2p dht --bootstrap 192.0.2.7:49737', 'One more']
  ],

  check ({ port }) {
    return port === undefined || (/^\d{1,5}$/.test(port) && Number(port) <= 65535) ? null : '--port must be a number up to 65535'
  },

  async run ({ values, output, interrupts }) {
    const { startDht } = require('../..')
    const { port, host, bootstrap } = values
    const node = await interrupts.race(startDht({ port: port && Number(port), host, bootstrap: bootstrap?.split(',') }))
    try {
      const { address, reachable, nodes } = node
      output.say(text(node, bootstrap), 'listening', { address, reachable, nodes })
      if (!reachable && bootstrap) {
        node.reached().then((address) => address && output.say(`Now reached from outside, at ${address}`, 'reached', { address }))
      }
      await interrupts.wait()
    } finally {
      await node.close()
    }
  }
}

function text ({ address, reachable, nodes }, bootstrap) {
  const use = `Others join with: --bootstrap ${address}\nAgents use it with: export ATS_P2P_BOOTSTRAP=${address}`
  if (!bootstrap) return `First node of a private network at ${address}\n${use}`
  if (nodes === 0) return `DHT node at ${address}, alone: nobody answers at ${bootstrap}`
  if (!reachable) return `DHT node at ${address}, which knows ${nodes} others, but is not reached from outside: open its UDP port`
  return `DHT node at ${address}, which knows ${nodes} others\n${use}`
}
