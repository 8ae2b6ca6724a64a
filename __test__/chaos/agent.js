'use strict'

// One end of the transfers of a chaos run, in a process that can be killed at any moment. What it is comes in the
// environment, what it sends over the channel to its parent, which hears of all that happens.

const { createNode } = require('../..')

const EVENTS = ['offer_sent', 'offer_resumed', 'peer_connected', 'transfer_start', 'transfer_progress', 'transfer_complete', 'transfer_failed', 'connected', 'disconnected']

async function main () {
  const { options, saveDir } = JSON.parse(process.env.CHAOS_AGENT)
  const node = await createNode(options)
  for (const event of EVENTS) node.on(event, payload => tell({ event, ...payload }))
  node.on('error', error => tell({ event: 'error', message: String(error.stack) }))
  process.on('disconnect', () => process.exit())
  process.on('message', async ({ send, end }) => {
    if (end) {
      await node.destroy()
      process.disconnect()
    } else {
      await offer(node, send)
    }
  })
  if (saveDir) node.watch({ saveDir })
  tell({ event: 'up' })
}

async function offer (node, { name, filePath }) {
  try {
    const { hash } = await node.send({ filePath, recipientId: 'receiver' })
    tell({ event: 'settled', fileName: name, hash })
  } catch ({ code, message }) {
    tell({ event: 'settled', fileName: name, code, message })
  }
}

function tell (message) {
  if (process.connected) process.send(message)
}

main()
