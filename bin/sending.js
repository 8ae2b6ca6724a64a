'use strict'

// What `send` and `resume` say of the files that they send: the same lines, whichever process began them.

const { connection, quoted, rate } = require('./output')

/** Says what becomes of the transfers of a node; `sent` says of one, by its result, that it is over. */
function sayTransfers (node, output) {
  const times = new Map()
  node.on('peer_connected', (peer) => output.say(`Path ${connection(peer)}`, 'peer_connected', peer))
  node.on('transfer_start', (transfer) => {
    times.set(transfer.transferId, { started: performance.now() })
    output.note('transfer_start', transfer)
  })
  node.on('transfer_complete', ({ transferId }) => {
    // None where the recipient had the file already.
    const time = times.get(transferId)
    if (time) time.ended = performance.now()
  })
  return {
    progress (transferId, bytesSent, totalBytes) {
      output.progress(bytesSent, totalBytes, { transferId, bytesSent, totalBytes })
    },

    sent (fileName, result) {
      const time = times.get(result.transferId)
      const durationMs = time ? Math.round(time.ended - time.started) : 0
      const speed = rate(result.size - result.resumedFrom, durationMs)
      const what = time ? `Sent ${quoted(fileName)} in ${(durationMs / 1000).toFixed(2)} s (${speed})` : `${quoted(fileName)} had arrived before`
      output.say(`${what}\nSHA-256 ${result.hash}, verified by the recipient`, 'transfer_complete', { ...result, durationMs })
    }
  }
}

module.exports = { sayTransfers }
