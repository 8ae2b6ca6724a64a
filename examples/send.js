'use strict'

// Sends a file, shows how it goes, and says what to do where it fails.
//
//   ATS_ACTOR_ID=me node examples/send.js data.csv reader

const { createNode } = require('ats-p2p')

async function main ([filePath, recipientId]) {
  const node = await createNode()
  try {
    const { hash, connection } = await node.send({
      filePath,
      recipientId,
      signal: AbortSignal.timeout(10 * 60_000),
      onProgress: ({ phase, bytes, totalBytes }) => process.stderr.write(`\r${phase} ${bytes} of ${totalBytes}\x1b[K`)
    })
    console.log(`\ndelivered (${connection?.path ?? 'it was there'}), SHA-256 ${hash}`)
  } catch (error) {
    if (error.code === 'ATS_P2P_REJECTED') console.error(`\n${recipientId} does not want it: ${error.message}`)
    else console.error(`\n${error.message} (${error.code})${error.retryable ? ': trying again may help' : ''}`)
    process.exitCode = 1
  } finally {
    await node.destroy()
  }
}

main(process.argv.slice(2))
