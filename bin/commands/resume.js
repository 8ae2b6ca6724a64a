'use strict'

const { CHANNEL, CONNECTION, MAX_RATE, TIMEOUT, nodeOptions, numberProblem } = require('../flags')
const { exitCode } = require('../exit-codes')
const { offerText, sayTransfers } = require('../sending')
const { TakenOver } = require('../detached/state')

module.exports = {
  summary: 'Go on with the files that this agent offered before its process ended',
  saysGoodbye: true,
  examples: [['ats-p2p resume --actor-id agent-a', 'What agent-a has left open']],
  flags: { ...CHANNEL, ...MAX_RATE, ...TIMEOUT, ...CONNECTION },

  check: numberProblem,

  async run ({ values, output, interrupts }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    const transfers = sayTransfers(node, output)
    const detached = new TakenOver(node)
    try {
      node.on('offer_resumed', (offer) => {
        output.say(offerText('Resumed', offer), 'offer_resumed', offer)
      })
      const offers = await interrupts.race(node.resumeOffers())
      if (offers.length === 0) output.say('Nothing was left open', 'nothing_to_resume', {})
      for (const { error, ...offer } of offers) {
        if (error) output.failure(error, offer.recipientId)
        else transfers.sent(offer.fileName, offer, offer.recipientId)
      }
      const failed = offers.find(({ error }) => error)
      return failed ? exitCode(failed.error) : 0
    } finally {
      await node.destroy()
    }
  }
}
