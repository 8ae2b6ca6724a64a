'use strict'

// Looks at each offer before it takes the file: small enough, and of a kind that this agent can read.
//
//   ATS_ACTOR_ID=reader node examples/decide.js inbox

const path = require('node:path')
const { createNode } = require('ats-p2p')

const KINDS = new Set(['.csv', '.json', '.txt'])

async function main ([saveDir = 'inbox']) {
  const node = await createNode({ maxFileSize: 100 * 1024 * 1024 })

  node.on('file', async ({ fileName, senderId, verified, accept, reject }) => {
    if (!KINDS.has(path.extname(fileName))) return reject(`only ${[...KINDS].join(', ')}`)
    const { filePath } = await accept({ saveDir })
    console.log(`${fileName} from ${senderId}${verified ? '' : ', who shows no identity'}: ${filePath}`)
  })
  node.on('transfer_failed', ({ fileName, reason, code }) => console.error(`${fileName}: ${reason} (${code})`))
  node.on('connected', ({ actorId }) => console.log(`waiting as ${actorId}`))
  node.watch()

  process.once('SIGINT', () => node.destroy())
  process.once('SIGTERM', () => node.destroy())
}

main(process.argv.slice(2))
