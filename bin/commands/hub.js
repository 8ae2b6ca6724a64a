'use strict'

module.exports = {
  summary: 'Run a task service and a private network on this machine',
  flags: {
    listen: { value: 'HOST:PORT', help: 'where the service listens (127.0.0.1:8787)' },
    data: { value: 'DIR', help: 'where its database is kept (hub in ATS_P2P_HOME, ~/.ats-p2p)' }
  },

  async run ({ values, output, interrupts }) {
    const { startHub } = require('../..')
    const hub = await startHub(values)
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
