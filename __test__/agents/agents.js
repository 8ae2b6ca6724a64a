'use strict'

// Some agents in one process. Each takes every file that is offered to it; `{ send: { from, to, id } }` has one send.

const fs = require('node:fs')
const path = require('node:path')
const { createNode } = require('../..')

/** Bytes of a file. */
const SIZE = 10_000

async function main () {
  const { url, folder, names } = JSON.parse(process.env.AGENTS)
  const filePath = path.join(folder, 'file')
  fs.writeFileSync(filePath, Buffer.alloc(SIZE, 7))
  const nodes = new Map()
  for (const name of names) nodes.set(name, await agent(url, folder, name))
  process.on('disconnect', () => process.exit())
  process.on('message', async ({ send, end }) => {
    if (send) process.send({ event: 'sent', id: send.id, ...await sent(nodes.get(send.from), filePath, send.to) })
    if (end) {
      await Promise.all([...nodes.values()].map(node => node.destroy()))
      process.disconnect()
    }
  })
  process.send({ event: 'up' })
}

async function agent (url, folder, name) {
  const node = await createNode({ atsUrl: url, actorId: name, home: path.join(folder, name), timeout: 60_000 })
  // Every file goes to the same place: what arrives is not what is measured.
  node.on('file', ({ accept }) => accept(path.join(folder, `${name}.arrived`)))
  const connected = new Promise(resolve => node.once('connected', resolve))
  node.watch()
  await connected
  return node
}

async function sent (node, filePath, recipientId) {
  const began = performance.now()
  try {
    await node.send({ filePath, recipientId })
    return { ms: performance.now() - began }
  } catch (error) {
    return { failed: `${recipientId}: ${error.message}` }
  }
}

main()
