'use strict'

const { CHANNEL, SERVICE, nodeOptions } = require('../flags')
const { table } = require('../output')

module.exports = {
  summary: 'Ask the task service how it is, and what it offers',
  answers: true,
  flags: { ...CHANNEL, ...SERVICE },
  details: ['It is asked once, for at most five seconds. Exit code 5 says that it is not reached, or not well; `ats-p2p doctor` looks at all else that transfers need.'],
  examples: [
    ['ats-p2p health', 'The service that is configured here'],
    ['ats-p2p health -u http://127.0.0.1:8787 && echo up', 'Another one, in a script']
  ],

  async run ({ values, output }) {
    const { health } = require('../..')
    const found = await health(nodeOptions(values))
    output.say(facts(found), 'health', found)
  }
}

function facts ({ atsUrl, status, version, ms, p2p }) {
  return table([
    ['Service', `${atsUrl}, answers in ${ms} ms`],
    ['Status', status ?? 'it does not say'],
    ['Version', version],
    ['Kind', p2p === null ? 'a task service alone: peers meet on the public network' : 'a hub'],
    ['DHT', p2p && (p2p.bootstrap.length > 0 ? p2p.bootstrap.join(', ') : 'none')],
    ['Relay', p2p && (p2p.relay ?? 'none')],
    ['Tunnel', p2p && ({ true: 'here', false: 'none' }[p2p.tunnel] ?? p2p.tunnel)]
  ])
}
