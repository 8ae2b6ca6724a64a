'use strict'

// What `send` and `resume` say of the files that they send: the same lines, whichever process began them.

const { amount, connection, quoted, rate } = require('./output')

/** What is said of a file that has arrived: `what` is it, and `how` it did, as both are shown. */
function sentText (what, recipientId, hash, how = '') {
  return proven(`Sent ${what} to ${quoted(recipientId)}${how}`, hash)
}

function proven (what, hash) {
  return `${what}\nSHA-256 ${hash}, verified by the recipient`
}

/** What is said of an offer: `Offered`, or as it was taken up again. */
function offerText (what, { recipientId, transferId, ...offer }) {
  return `${what} ${quoted(offer.fileName)} (${amount(offer)}) to ${quoted(recipientId)}, transfer ${transferId}`
}

/** Says what becomes of the transfers of a node; `sent` says of one, by its result, that it is over. */
function sayTransfers (node, output) {
  const times = new Map()
  // How much of each file is sent, which a lost connection does not take back.
  const sent = new Map()
  node.on('peer_connected', (peer) => output.say(`Path to ${quoted(peer.peerId)}: ${connection(peer)}`, 'peer_connected', peer))
  node.on('transfer_start', (transfer) => {
    times.set(transfer.transferId, { started: performance.now() })
    output.note('transfer_start', transfer)
  })
  node.on('transfer_progress', (transfer) => {
    const { transferId, taskId, peerId, bytes, totalBytes, phase, rate, eta } = transfer
    if (phase !== 'hashing') sent.set(transferId, Math.max(sent.get(transferId) ?? 0, bytes))
    output.progress(transfer, { transferId, taskId, recipientId: peerId, bytesSent: sent.get(transferId) ?? 0, totalBytes, phase, bytes, rate, eta })
  })
  node.on('transfer_complete', ({ transferId }) => {
    output.ended(transferId)
    // None where the recipient had the file already.
    const time = times.get(transferId)
    if (time) time.ended = performance.now()
  })
  node.on('transfer_failed', ({ transferId }) => output.ended(transferId))
  return {
    sent (fileName, result, recipientId) {
      const time = times.get(result.transferId)
      const durationMs = time ? Math.round(time.ended - time.started) : 0
      const speed = rate(result.size - result.resumedFrom, durationMs)
      const text = time
        ? sentText(quoted(fileName), recipientId, result.hash, ` in ${(durationMs / 1000).toFixed(2)} s (${speed})`)
        : proven(`${quoted(fileName)} had arrived at ${quoted(recipientId)} before`, result.hash)
      output.say(text, 'transfer_complete', { ...result, recipientId, durationMs })
    }
  }
}

module.exports = { offerText, sayTransfers, sentText }
