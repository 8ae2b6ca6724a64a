'use strict'

const { CHANNEL, CONNECTION, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { connection, quoted, rate, size } = require('../output')

module.exports = {
  summary: 'Offer a file to an agent and send it once it is accepted',
  positionals: ['FILE'],
  flags: { to: { value: 'ID', help: 'the actor who is to have it (required)' }, ...CHANNEL, ...TIMEOUT, ...VERIFIED, ...CONNECTION },

  check (values, [file]) {
    if (file === undefined) return 'which file?'
    if (values.to === undefined) return 'to whom? --to is required'
    return numberProblem(values)
  },

  async run ({ values, positionals: [filePath], output, interrupts }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    let name
    let started
    try {
      node.on('offer_sent', (offer) => {
        name = quoted(offer.fileName)
        output.say(`Offered ${name} (${size(offer.fileSize)}) to ${quoted(offer.recipientId)}, transfer ${offer.transferId}`, 'offer_sent', offer)
      })
      node.on('peer_connected', (peer) => output.say(`Path ${connection(peer)}`, 'peer_connected', peer))
      node.on('transfer_start', (transfer) => {
        started ??= performance.now()
        output.note('transfer_start', transfer)
      })
      const result = await node.send({
        filePath,
        recipientId: values.to,
        signal: interrupts.signal,
        onProgress ({ bytesSent, totalBytes }) {
          output.progress(bytesSent, totalBytes)
          output.note('transfer_progress', { bytesSent, totalBytes })
        }
      })
      const durationMs = Math.round(performance.now() - started)
      output.say(
        `Sent ${name} in ${(durationMs / 1000).toFixed(2)} s (${rate(result.size, durationMs)})\n` +
        `SHA-256 ${result.hash}, verified by the recipient`,
        'transfer_complete',
        { ...result, durationMs }
      )
    } finally {
      await node.destroy()
    }
  }
}
