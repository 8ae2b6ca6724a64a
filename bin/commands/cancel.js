'use strict'

const { setTimeout: sleep } = require('node:timers/promises')
const { CHANNEL, CONNECTION, idProblem, nodeOptions } = require('../flags')
const { quoted } = require('../output')
const { withKept } = require('../detached/settings')
const { isRunning, readState, requestCancel } = require('../detached/state')

// How long a process of this machine may take to end its transfer, and how often that is looked at.
const END_MS = 10_000
const READ_MS = 50

module.exports = {
  summary: 'End a transfer of this agent, wherever it runs',
  positionals: ['TRANSFER-ID'],
  examples: [['ats-p2p cancel 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11', 'A transfer, by the id that send has said']],
  flags: { ...CHANNEL, ...CONNECTION },

  check (values, [id]) {
    return idProblem(id, 'which transfer?')
  },

  async run ({ values, positionals: [id], output }) {
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(withKept(readState(id), values)))
    try {
      await endHere(id)
      const status = await node.cancel(id)
      // A task that was claimed fails by that.
      const how = status.code === 'ATS_P2P_CANCELLED' ? 'cancelled' : status.status
      output.say(`Transfer ${quoted(status.transferId ?? id)} is ${quoted(how)}`, 'cancel', status)
    } finally {
      await node.destroy()
    }
  }
}

/** Has a process of this machine end the transfer, if one runs it: it says so to its peer, and is not told by the service. */
async function endHere (id) {
  const state = readState(id)
  if (state === null || !isRunning(state)) return
  requestCancel(state)
  for (const began = performance.now(); performance.now() - began < END_MS; await sleep(READ_MS)) {
    const now = readState(id)
    if (now === null || !isRunning(now)) return
  }
}
