'use strict'

const { CHANNEL, CONNECTION, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { quoted, size } = require('../output')
const { sayTransfers } = require('../sending')

module.exports = {
  summary: 'Offer a file to an agent and send it once it is accepted',
  saysGoodbye: true,
  positionals: ['FILE'],
  completes: 'file',
  flags: {
    to: { value: 'ID', short: 't', help: 'the actor who is to have it (required)', completes: 'peer' },
    ...CHANNEL,
    ...TIMEOUT,
    ...VERIFIED,
    ...CONNECTION
  },
  examples: [
    ['ats-p2p send ./data.csv --to agent-b', 'A file for agent-b, who may be just starting'],
    ['ats-p2p send ./data.csv --to agent-b --json', 'The same for a program, which reads a JSON object a line'],
    ['ats-p2p send -u http://127.0.0.1:8787 --actor-id agent-a --to agent-b -- -odd-name', 'By another service, as agent-a, a file whose name begins with a dash']
  ],

  check (values, [file]) {
    if (file === undefined) return 'which file?'
    if (values.to === undefined) return 'to whom? --to is required'
    return numberProblem(values)
  },

  async run ({ values, positionals: [filePath], output, interrupts }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    const transfers = sayTransfers(node, output)
    let offered
    try {
      node.on('offer_sent', (offer) => {
        offered = offer
        output.say(`Offered ${quoted(offer.fileName)} (${size(offer.fileSize)}) to ${quoted(offer.recipientId)}, transfer ${offer.transferId}`, 'offer_sent', offer)
      })
      const result = await node.send({
        filePath,
        recipientId: values.to,
        signal: interrupts.signal
      })
      transfers.sent(offered.fileName, result)
    } finally {
      await node.destroy()
    }
  }
}
