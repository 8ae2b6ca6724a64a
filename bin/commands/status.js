'use strict'

const { keptFlags, resumeCommand, withKept } = require('../detached/settings')
const { isRunning, readState, readStates } = require('../detached/state')
const { CHANNEL, CONNECTION, idProblem, nodeOptions } = require('../flags')
const { quoted, size, table } = require('../output')

module.exports = {
  summary: 'Show what the task service knows of a transfer, or what is sent in the background',
  answers: true,
  positionals: ['[TRANSFER-ID]'],
  details: ['Without an id: what `ats-p2p send --detach` has sent, or sends, from this home, the newest first.'],
  examples: [
    ['ats-p2p status 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11', 'A transfer, by the id that send has said'],
    ['ats-p2p status', 'What is sent in the background']
  ],
  flags: { ...CHANNEL, ...CONNECTION },

  check (values, [id]) {
    return id === undefined ? null : idProblem(id, 'of which transfer?')
  },

  async run ({ values, positionals: [id], output }) {
    if (id === undefined) return list(output)
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(withKept(readState(id), values)))
    try {
      const status = await node.status(id)
      output.say(facts(status), 'status', status)
    } finally {
      await node.destroy()
    }
  }
}

function facts (status) {
  return table([
    ['Transfer', status.transferId],
    ['Task', status.taskId],
    ['Status', status.status],
    ['File', status.fileName],
    ['Size', status.fileSize === undefined ? undefined : size(status.fileSize)],
    ['SHA-256', status.fileHash],
    ['From', status.senderId],
    ['To', status.recipientId],
    ['Reason', status.reason]
  ])
}

/** Says what is known here of transfers that go on, or went on, in processes of their own. */
async function list (output) {
  const here = await keptFlags({})
  const states = readStates()
  const transfers = states.map(({ transferId, taskId, fileName, fileSize, recipientId, progress, ended, ...state }) => {
    const running = isRunning({ ended, ...state })
    return { transferId, taskId, fileName, fileSize, recipientId, running, progress, exitCode: ended?.exitCode ?? null }
  })
  const lines = transfers.map((transfer, at) => `${transfer.transferId}  ${quoted(transfer.fileName)} to ${quoted(transfer.recipientId)}: ${standing(transfer, resumeCommand(states[at], here))}`)
  output.say(lines.length > 0 ? lines.join('\n') : 'Nothing was sent in the background. Of any other transfer: ats-p2p status TRANSFER-ID', 'background', { transfers })
}

function standing ({ running, progress: { phase, bytes, totalBytes }, exitCode }, resume) {
  if (running) return phase === 'transferring' ? `${phase}, ${size(bytes)} of ${size(totalBytes)}` : phase
  if (exitCode === null) return `its process ended in the middle; \`${resume}\` goes on with it`
  return exitCode === 0 ? 'delivered' : `failed, exit code ${exitCode}`
}
