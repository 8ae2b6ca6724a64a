'use strict'

const { CHANNEL, CONNECTION, MAX_CONCURRENT, MAX_SIZE, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { connection, quoted, size } = require('../output')

const DEFAULT_SAVE_DIR = './incoming'

module.exports = {
  summary: 'Accept the files that are offered to this agent, until interrupted',
  saysGoodbye: true,
  flags: {
    'save-dir': { value: 'DIR', short: 'd', help: 'where files are saved; made if missing', otherwise: DEFAULT_SAVE_DIR, completes: 'folder' },
    allow: { value: 'ID', help: 'take files from this actor only, or from ID=IDENTITY; may be repeated', otherwise: 'anyone', multiple: true, completes: 'peer' },
    ...VERIFIED,
    ...CHANNEL,
    ...MAX_SIZE,
    ...MAX_CONCURRENT,
    ...TIMEOUT,
    ...CONNECTION
  },
  examples: [
    ['ats-p2p listen --actor-id agent-b', 'All files for agent-b, into ./incoming'],
    ['ats-p2p listen --actor-id agent-b --allow agent-a --save-dir /srv/inbox', 'Those of agent-a alone, into a folder']
  ],

  check: numberProblem,

  async run ({ values, output, interrupts }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    const saveDir = values['save-dir'] ?? DEFAULT_SAVE_DIR
    const broken = new Promise((resolve, reject) => node.on('error', reject))
    try {
      node.on('connected', (service) => {
        const { actorId, channel, atsUrl } = service
        output.say(`Listening as ${quoted(actorId)} on channel ${quoted(channel)} of ${atsUrl}, saving to ${saveDir}`, 'connected', service)
      })
      node.on('disconnected', ({ reason }) => {
        output.note('disconnected', { reason })
        output.problem(`the task service is not reached, trying again: ${quoted(reason)}`)
      })
      node.on('peer_connected', (peer) => {
        output.say(`Path to ${quoted(peer.peerId)}: ${connection(peer)}`, 'peer_connected', peer)
      })
      node.on('transfer_start', (transfer) => {
        output.say(`Receiving ${describe(transfer)}, ${standing(transfer)}`, 'transfer_start', transfer)
      })
      node.on('transfer_progress', (transfer) => {
        output.progress(transfer.bytes, transfer.totalBytes, transfer)
      })
      node.on('transfer_complete', (transfer) => {
        output.say(`Saved ${quoted(transfer.filePath)}, SHA-256 ${transfer.fileHash} verified`, 'transfer_complete', transfer)
      })
      node.on('transfer_failed', (transfer) => {
        output.note('transfer_failed', transfer)
        output.problem(`${describe(transfer)} failed: ${quoted(transfer.reason)} (${transfer.code})`)
      })
      node.watch({ saveDir })
      await Promise.race([interrupts.wait(), broken])
    } finally {
      await node.destroy()
    }
  }
}

/** What is known of who sends, in a word. */
function standing ({ verified, firstUse }) {
  if (!verified) return 'unverified'
  return firstUse ? 'first use' : 'verified'
}

function describe ({ fileName, fileSize, peerId }) {
  return `${quoted(fileName)} (${size(fileSize)}) from ${quoted(peerId)}`
}
