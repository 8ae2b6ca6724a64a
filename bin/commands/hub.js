'use strict'

module.exports = {
  summary: 'Run a task service and a private network on this machine',
  flags: {
    listen: { value: 'HOST:PORT', help: 'where the service listens (127.0.0.1:8787)' },
    data: { value: 'DIR', help: 'where its database is kept (hub in ATS_P2P_HOME, ~/.ats-p2p)' },
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
      relay: values.relay,
      relayPairs: number(values['relay-pairs']),
      relayRate: number(values['relay-rate']),
      relayBytes: number(values['relay-bytes'])
    })
    try {
      output.say(
        `Hub at ${hub.url}, DHT at ${hub.bootstrap.join(', ')}\nIn each terminal of yours: export ATS_URL=${hub.url}`,
        'listening',
        { url: hub.url, bootstrap: hub.bootstrap }
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
