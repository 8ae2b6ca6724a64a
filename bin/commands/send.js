'use strict'

const { CHANNEL, CONNECTION, PRESERVE, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { detach } = require('../detached/start')
const { exitCode } = require('../exit-codes')
const { quoted, size } = require('../output')
const { invalid } = require('../../lib/error')
const { asGiven } = require('../raw-arguments')
const { sayTransfers } = require('../sending')
const { warnOfDefaultActor } = require('../warnings')

module.exports = {
  summary: 'Offer a file to an agent and send it once it is accepted',
  saysGoodbye: true,
  positionals: ['FILE'],
  completes: 'file',
  flags: {
    to: { value: 'ID', short: 't', help: 'the actor who is to have it (required); may be repeated', multiple: true, completes: 'peer' },
    detach: { help: 'return once the file is offered, and send it in the background' },
    'idempotency-key': { value: 'KEY', help: 'make this the same send as every other with this key: the file is delivered once' },
    metadata: { value: 'JSON', help: 'what to say of the file: any JSON of at most 4 KiB, shown to the recipient with the offer' },
    ...CHANNEL,
    ...TIMEOUT,
    ...VERIFIED,
    ...PRESERVE,
    ...CONNECTION
  },
  details: ['To several recipients the file goes at once. What becomes of one does not change what becomes of another: the exit code is 0 if all have it, else that of the first of them, in the order of --to, who has not.'],
  examples: [
    ['ats-p2p send ./data.csv --to agent-b', 'A file for agent-b, who may be just starting'],
    ['ats-p2p send ./data.csv --to agent-b --to agent-c', 'The same file for two, each by a transfer of its own'],
    ['ats-p2p send ./data.csv --to agent-b --detach', 'The same in the background; `ats-p2p wait TRANSFER-ID` follows it'],
    ['ats-p2p send ./data.csv --to agent-b --metadata \'{"kind":"report","of":7}\'', 'With something that the recipient is told with the offer'],
    ['ats-p2p send ./data.csv --to agent-b --json', 'The same for a program, which reads a JSON object a line'],
    ['ats-p2p send -u http://127.0.0.1:8787 --actor-id agent-a --to agent-b -- -odd-name', 'By another service, as agent-a, a file whose name begins with a dash']
  ],

  check (values, [file]) {
    if (file === undefined) return 'which file?'
    if (values.to === undefined) return 'to whom? --to is required'
    if (values['idempotency-key']?.trim() === '') return '--idempotency-key must not be empty'
    if (values['idempotency-key'] !== undefined && new Set(values.to).size > 1) return '--idempotency-key goes with one recipient: a key stands for one transfer'
    if (values.metadata !== undefined && metadata(values) === undefined) return '--metadata must be JSON, in quotes as the shell wants them: \'{"kind":"report"}\''
    return numberProblem(values)
  },

  async run ({ values, positionals, output, interrupts }) {
    const filePath = asGiven(positionals[0])
    if (values.detach) {
      if (typeof filePath !== 'string') throw invalid(`${filePath} is not UTF-8, and no process in the background can be told of it`)
      await warnOfDefaultActor(nodeOptions(values), output)
      return detach({ values, positionals, output, interrupts })
    }
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    await warnOfDefaultActor(nodeOptions(values), output)
    const transfers = sayTransfers(node, output)
    const names = new Map()
    const say = (what, event) => node.on(event, (offer) => {
      names.set(offer.recipientId, offer.fileName)
      output.say(`${what} ${quoted(offer.fileName)} (${size(offer.fileSize)}) to ${quoted(offer.recipientId)}, transfer ${offer.transferId}`, event, offer)
    })
    say('Offered', 'offer_sent')
    // By an earlier send with the same key.
    say('Had offered', 'offer_resumed')
    const recipients = [...new Set(values.to)]
    const send = async (recipientId) => {
      const result = await node.send({ filePath, recipientId, idempotencyKey: values['idempotency-key'], metadata: metadata(values), signal: interrupts.signal })
      transfers.sent(names.get(recipientId), result, recipientId)
    }
    try {
      if (recipients.length === 1) return await send(recipients[0])
      const outcomes = await Promise.all(recipients.map(recipient => send(recipient).then(() => 0, (error) => {
        if (interrupts.exitCode === null) output.failure(error, recipient)
        return exitCode(error)
      })))
      return outcomes.find(outcome => outcome !== 0) ?? 0
    } finally {
      await node.destroy()
    }
  }
}

/** The value that --metadata is the text of; undefined where it is not given, or no JSON. */
function metadata ({ metadata: text }) {
  try {
    return text === undefined ? undefined : JSON.parse(text)
  } catch {
    return undefined
  }
}
