'use strict'

const { CHANNEL, CONNECTION, nodeOptions } = require('../flags')
const { size, table } = require('../output')

module.exports = {
  summary: 'Show what the task service knows of a transfer',
  answers: true,
  positionals: ['TRANSFER-ID'],
  examples: [['ats-p2p status 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11', 'A transfer, by the id that send has said']],
  flags: { ...CHANNEL, ...CONNECTION },

  check (values, [id]) {
    return id === undefined ? 'of which transfer?' : null
  },

  async run ({ values, positionals: [id], output }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    try {
      const status = await node.status(id)
      output.say(facts(status), 'status', status)
    } finally {
      await node.destroy()
    }
  }
}

function facts (status) {
  return table([
    ['Transfer', status.transferId],
    ['Task', status.taskId],
    ['Status', status.status],
    ['File', status.fileName],
    ['Size', status.fileSize === undefined ? undefined : size(status.fileSize)],
    ['SHA-256', status.fileHash],
    ['From', status.senderId],
    ['To', status.recipientId],
    ['Reason', status.reason]
  ])
}
