'use strict'

// Takes offers one by one, each when the one before is done with, until it has as many as wanted.
//
//   ATS_ACTOR_ID=collector node examples/inbox.js 2

const { createNode } = require('ats-p2p')

async function main ([wanted = '1']) {
  const node = await createNode()
  let left = Number(wanted)
  try {
    for await (const offer of node.offers()) {
      const { filePath, hash } = await offer.accept({ saveDir: 'inbox' })
      console.log(`${filePath} ${hash}`)
      if (--left === 0) break
    }
  } finally {
    await node.destroy()
  }
}

main(process.argv.slice(2))
