'use strict'

module.exports = {
  summary: 'Run a task service and a private network on this machine',
  flags: {
    listen: { value: 'HOST:PORT', help: 'where the service listens; :8787 is on all addresses (127.0.0.1:8787)' },
    data: { value: 'DIR', help: 'where its database is kept (hub in ATS_P2P_HOME, ~/.ats-p2p)' },
    'public-url': { value: 'URL', help: 'what others call it, as behind a proxy (the address it listens on)' },
    'allow-host': { value: 'NAME', help: 'another name that it goes by; may be repeated', multiple: true },
    'trust-proxy': { value: 'ADDRESS,…', help: 'proxies whose word on a client\'s address is taken, as 10.0.0.0/8' },
    'request-rate': { value: 'N', help: 'most requests a second of one address elsewhere (200)' },
    relay: { value: 'WHOM', help: 'whom the relay serves: tasks, open or off (tasks)' },
    'relay-pairs': { value: 'N', help: 'most pairs relayed at once (64)' },
    'relay-rate': { value: 'BYTES', help: 'most bytes a second for a pair (33554432)' },
    'relay-bytes': { value: 'BYTES', help: 'most bytes for a pair (274877906944)' }
  },

  async run ({ values, output, interrupts }) {
    const { startHub } = require('../..')
    const hub = await startHub({
      listen: values.listen,
      data: values.data,
      publicUrl: values['public-url'],
      allowedHosts: values['allow-host'],
      trustedProxies: values['trust-proxy']?.split(','),
      requestRate: number(values['request-rate']),
      relay: values.relay,
      relayPairs: number(values['relay-pairs']),
      relayRate: number(values['relay-rate']),
      relayBytes: number(values['relay-bytes'])
    })
    try {
      const others = hub.urls.length > 1 ? ` (also ${hub.urls.slice(1).join(', ')})` : ''
      output.say(
        `Hub at ${hub.url}${others}, DHT at ${hub.bootstrap.join(', ')}\nIn each terminal of yours: export ATS_URL=${hub.url}`,
        'listening',
        { url: hub.url, urls: hub.urls, bootstrap: hub.bootstrap }
      )
      await interrupts.wait()
    } finally {
      await hub.close()
    }
  }
}

function number (text) {
  return text === undefined ? undefined : Number(text)
}
