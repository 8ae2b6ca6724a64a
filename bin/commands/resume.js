'use strict'

const { CHANNEL, CONNECTION, TIMEOUT, nodeOptions, numberProblem } = require('../flags')
const { exitCode } = require('../exit-codes')
const { quoted, size } = require('../output')

module.exports = {
  summary: 'Go on with the files that this agent offered before its process ended',
  flags: { ...CHANNEL, ...TIMEOUT, ...CONNECTION },

  check: numberProblem,

  async run ({ values, output, interrupts }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    try {
      interrupts.signal.addEventListener('abort', () => { node.destroy() })
      node.on('offer_resumed', (offer) => {
        output.say(`Resumed ${quoted(offer.fileName)} (${size(offer.fileSize)}) to ${quoted(offer.recipientId)}, transfer ${offer.transferId}`, 'offer_resumed', offer)
      })
      node.on('transfer_progress', ({ bytes, totalBytes }) => output.progress(bytes, totalBytes))
      const offers = await node.resumeOffers()
      if (offers.length === 0) output.say('Nothing was left open', 'nothing_to_resume', {})
      for (const { error, ...offer } of offers) {
        if (error) {
          output.failure(error)
        } else {
          output.say(`Sent ${quoted(offer.fileName)}\nSHA-256 ${offer.hash}, verified by the recipient`, 'transfer_complete', offer)
        }
      }
      const failed = offers.find(({ error }) => error)
      return failed ? exitCode(failed.error) : 0
    } finally {
      await node.destroy()
    }
  }
}
