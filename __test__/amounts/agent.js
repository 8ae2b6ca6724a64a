'use strict'

// One end of an honest transfer, in a process whose memory is measured. It accepts what the honest sender offers, and
// leaves all else unanswered.

const { createNode } = require('../..')

async function main () {
  const { options, saveDir } = JSON.parse(process.env.AMOUNTS_AGENT)
  const node = await createNode(options)
  let offers = 0
  node.on('file', async ({ senderId, fileName, taskId, accept }) => {
    offers++
    if (senderId !== 'honest') return
    tell({ event: 'offered', taskId, fileName })
    await accept({ saveDir })
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
  let began
  node.once('transfer_start', () => { began = performance.now() })
  try {
    await node.send({ filePath, recipientId: 'receiver' })
    return { event: 'settled', ms: performance.now() - began }
  } catch (error) {
    return { event: 'settled', failed: error.message }
  }
}

function tell (message) {
  process.send(message)
}

main()
