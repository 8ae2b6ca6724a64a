'use strict'

// One end of an honest transfer, in a process whose memory is measured. It accepts what the honest sender offers, and an
// original, and leaves all else unanswered.

const { createNode } = require('../..')

async function main () {
  const { options, saveDir } = JSON.parse(process.env.AMOUNTS_AGENT)
  const node = await createNode(options)
  let offers = 0
  node.on('file', async ({ senderId, fileName, taskId, accept }) => {
    offers++
    if (!['honest', 'inside', 'original'].includes(senderId)) return
    tell({ event: 'offered', taskId, fileName })
    // That the original never comes is what ends its transfer; the honest sender tells of its own.
    await accept({ saveDir }).catch(() => {})
  })
  node.on('transfer_start', transfer => tell({ event: 'started', ...transfer }))
  process.on('disconnect', () => process.exit())
  process.on('message', async ({ send, memory, end }) => {
    if (send) tell(await offer(node, send))
    if (memory) tell({ event: 'memory', bytes: process.memoryUsage.rss(), offers })
    if (end) {
      await node.destroy()
      process.disconnect()
    }
  })
  if (saveDir) node.watch()
  tell({ event: 'up' })
}

async function offer (node, filePath) {
  let offered, began
  node.once('offer_sent', () => { offered = performance.now() })
  node.once('transfer_start', () => { began = performance.now() })
  try {
    await node.send({ filePath, recipientId: 'receiver' })
    return { event: 'settled', waited: began - offered, ms: performance.now() - began }
  } catch (error) {
    return { event: 'settled', failed: error.message }
  }
}

function tell (message) {
  process.send(message)
}

main()
