'use strict'

const { CHANNEL, SERVICE, nodeOptions } = require('../flags')
const { quoted, size, table } = require('../output')
const { asGiven } = require('../raw-arguments')

module.exports = {
  summary: 'Check what both ends of a transfer signed, and a file against it',
  answers: true,
  positionals: ['TRANSFER', '[FILE]'],
  completes: 'file',
  flags: {
    receipt: { value: 'FILE', help: 'check the receipt in this file, instead of that of TRANSFER', completes: 'file' },
    ...CHANNEL,
    ...SERVICE
  },
  examples: [
    ['ats-p2p verify 0198c6b2-6a3c-7d10-9a52-3f0f6f5b2c11 ./data.csv', 'Whether a file is the one that was sent, and who signed that'],
    ['ats-p2p verify --receipt ./receipt.json', 'A receipt that somebody has handed over']
  ],

  check ({ receipt }, positionals) {
    const [surplus] = positionals.slice(receipt === undefined ? 2 : 1)
    if (surplus !== undefined) return `"${surplus}" is one argument too many`
    return receipt === undefined && positionals.length === 0 ? 'of which transfer? its id, or that of its task; or --receipt FILE' : null
  },

  async run ({ values, positionals, output }) {
    const { verify } = require('../..')
    const { receipt } = values
    const [id, file] = receipt === undefined ? positionals : [undefined, ...positionals]
    const verified = await verify({ ...nodeOptions(values), id, receipt: receipt && asGiven(receipt), file: file && asGiven(file) })
    output.say(told(verified, file), 'verified', verified)
  }
}

function told ({ transferId, taskId, fileName, fileSize, fileHash, sender, receiver, offeredAt, completedAt, durationMs, fileChecked }, file) {
  const facts = table([
    ['Transfer', transferId],
    ['Task', taskId],
    ['File', `${fileName} (${size(fileSize)})`],
    ['SHA-256', fileHash],
    ['From', signatory(sender)],
    ['To', signatory(receiver)],
    ['Offered', offeredAt],
    ['Arrived', `${completedAt}, after ${(durationMs / 1000).toFixed(2)} s`]
  ])
  return `${facts}\nBoth have signed this.${fileChecked ? ` ${quoted(file)} is that file.` : ''}`
}

function signatory ({ actorId, identity, own }) {
  return `${actorId}, ${identity}${own ? " (this user's own)" : ''}`
}
