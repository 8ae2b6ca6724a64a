// Sends files by one node, one after another, and says of each what `ats-p2p send --json` says.
//   sender.js TO FILE...
const { createNode } = require('../..')
const { Output } = require('../../bin/output')
const { sayTransfers } = require('../../bin/sending')

async function main ([recipientId, ...files]) {
  const output = new Output({ json: true })
  const node = await createNode({ actorId: 'a' })
  const transfers = sayTransfers(node, output)
  node.on('offer_sent', (offer) => output.note('offer_sent', offer))
  try {
    for (const filePath of files) transfers.sent(filePath, await node.send({ filePath, recipientId }))
  } catch (error) {
    output.failure(error)
  } finally {
    await node.destroy()
  }
}

main(process.argv.slice(2))
