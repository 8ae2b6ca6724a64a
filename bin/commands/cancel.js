'use strict'

const { CHANNEL, CONNECTION, nodeOptions } = require('../flags')
const { quoted } = require('../output')

module.exports = {
  summary: 'End a transfer of this agent, wherever it runs',
  positionals: ['TRANSFER-ID'],
  examples: [['ats-p2p cancel 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11', 'A transfer, by the id that send has said']],
  flags: { ...CHANNEL, ...CONNECTION },

  check (values, [id]) {
    return id === undefined ? 'which transfer?' : null
  },

  async run ({ values, positionals: [id], output }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    try {
      const status = await node.cancel(id)
      output.say(`Transfer ${quoted(status.transferId ?? id)} is ${quoted(status.status)}`, 'cancel', status)
    } finally {
      await node.destroy()
    }
  }
}
