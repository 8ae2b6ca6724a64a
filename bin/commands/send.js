'use strict'

const { CHANNEL, CONNECTION, MAX_RATE, PRESERVE, TIMEOUT, VERIFIED, nodeOptions, number, numberProblem } = require('../flags')
const { detach } = require('../detached/start')
const { exitCode } = require('../exit-codes')
const { invalid } = require('../../lib/error')
const { given, isPipe } = require('../piped')
const { asGiven } = require('../raw-arguments')
const { offerText, sayTransfers } = require('../sending')
const { warnOfDefaultActor, warnOfSettings } = require('../warnings')

module.exports = {
  summary: 'Offer files and folders to an agent and send them once they are accepted',
  saysGoodbye: true,
  // Of what goes on by itself, the id is asked for.
  answers: (positionals, { detach = false }) => detach,
  positionals: ['FILE...'],
  completes: 'file',
  flags: {
    to: { value: 'ID', short: 't', help: 'the actor who is to have it (required); may be repeated', multiple: true, completes: 'peer' },
    name: { value: 'NAME', help: 'what is sent is to be called so; required where FILE is -, which is what comes in by stdin' },
    'max-bytes': { value: 'BYTES', help: 'of what comes by a pipe, the most that is kept', otherwise: '10 GiB' },
    detach: { help: 'return once the file is offered, and send it in the background' },
    exclude: { value: 'PATTERN', help: 'of each folder, leave out what matches, as in a .gitignore at its top; may be repeated', multiple: true },
    gitignore: { help: "of each folder, leave out .git and what the folder's own .gitignore files do" },
    'idempotency-key': { value: 'KEY', help: 'make this the same send as every other with this key: the file is delivered once' },
    metadata: { value: 'JSON', help: 'what to say of the file: any JSON of at most 4 KiB, shown to the recipient with the offer' },
    ...CHANNEL,
    ...TIMEOUT,
    ...VERIFIED,
    ...MAX_RATE,
    ...PRESERVE,
    ...CONNECTION
  },
  details: ['Several files and folders go as one offer. They arrive in a folder of their own, each by the last part of its path, all at once or not at all; it is called after one of them, as "a.jpg and 2 more", or by --name.', 'FILE may be - for stdin, or a named pipe. What comes by a pipe is first kept, up to --max-bytes, in a file without a name in the system\'s temporary folder (TMPDIR), since the offer says its hash; it does not go in the background.', 'To several recipients the file goes at once. What becomes of one does not change what becomes of another: the exit code is 0 if all have it, else that of the first of them, in the order of --to, who has not.'],
  examples: [
    ['ats-p2p send ./data.csv --to agent-b', 'A file for agent-b, who may be just starting'],
    ['ats-p2p send ./data.csv --to agent-b --to agent-c', 'The same file for two, each by a transfer of its own'],
    ['ats-p2p send ./dist/ --to agent-b --exclude "*.map"', 'A folder, without some of its files'],
    ['ats-p2p send a.jpg ./dist/ notes.txt --to agent-b --name holiday', 'Files and folders in one folder, holiday, by one offer'],
    ['ats-p2p send ./data.csv --to agent-b --detach', 'A file in the background; `ats-p2p wait TRANSFER-ID` follows it'],
    ['ats-p2p send ./data.csv --to agent-b --metadata \'{"kind":"report","of":7}\'', 'With something that the recipient is told with the offer'],
    ['pg_dump shop | ats-p2p send - --name shop.sql --to agent-b', 'What a command prints'],
    ['ats-p2p send ./data.csv --to agent-b --json', 'The same for a program, which reads a JSON object a line'],
    ['ats-p2p send -u http://127.0.0.1:8787 --actor-id agent-a --to agent-b -- -odd-name', 'By another service, as agent-a, a file whose name begins with a dash']
  ],

  check (values, files) {
    const [file] = files
    if (file === undefined) return 'which file?'
    if (values.to === undefined) return 'to whom? --to is required'
    if (files.length > 1 && files.includes('-')) return '- goes alone: send what comes in by stdin by itself, or write it to a file first'
    if (file === '-') {
      if (values.name === undefined) return 'what is it to be called? --name is required with -'
      if (values.detach) return '--detach needs a file: what comes by a pipe goes with this process'
    }
    if (values.exclude?.some(pattern => pattern.trim() === '')) return '--exclude must not be empty'
    if (values['idempotency-key']?.trim() === '') return '--idempotency-key must not be empty'
    if (values['idempotency-key'] !== undefined && new Set(values.to).size > 1) return '--idempotency-key goes with one recipient: a key stands for one transfer'
    if (values.metadata !== undefined && metadata(values) == null) return '--metadata must be JSON other than null, in quotes as the shell wants them: \'{"kind":"report"}\''
    return numberProblem(values)
  },

  async run ({ values, positionals, output, interrupts }) {
    const files = positionals.map(asGiven)
    if (values.detach) {
      const odd = files.find(file => typeof file !== 'string')
      if (odd) throw invalid(`${odd} is not UTF-8, and no process in the background can be told of it`)
      const pipe = files.find(isPipe)
      if (pipe) throw invalid(`--detach needs a file: what comes by the pipe ${pipe} goes with this process`)
      await warnOfSettings(nodeOptions(values), output)
      return detach({ values, positionals, output, interrupts })
    }
    const content = await given(files, values.name, interrupts.signal)
    try {
      return await send(content, { values, output, interrupts })
    } finally {
      // One that nobody reads would keep the process alive for as long as its other end.
      content.stream?.destroy()
    }
  }
}

/** Sends what is given, and resolves with an exit code. */
async function send (content, { values, output, interrupts }) {
  const { createNode } = require('../..')
  const node = await createNode(nodeOptions(values))
  await warnOfDefaultActor(nodeOptions(values), output)
  const transfers = sayTransfers(node, output)
  const names = new Map()
  const say = (what, event) => node.on(event, (offer) => {
    names.set(offer.recipientId, offer.fileName)
    output.say(offerText(what, offer), event, offer)
  })
  say('Offered', 'offer_sent')
  // By an earlier send with the same key.
  say('Had offered', 'offer_resumed')
  const recipients = [...new Set(values.to)]
  const { exclude, gitignore } = values
  const parts = content.stream === undefined ? { exclude, gitignore } : { maxBytes: number(values['max-bytes']) }
  const options = { ...content, ...parts, idempotencyKey: values['idempotency-key'], metadata: metadata(values), signal: interrupts.signal }
  try {
    if (recipients.length === 1) {
      const [recipientId] = recipients
      const result = await node.send({ ...options, recipientId })
      transfers.sent(names.get(recipientId), result, recipientId)
      return 0
    }
    const onResult = ({ recipientId, error, ...result }) => {
      if (!error) transfers.sent(names.get(recipientId), result, recipientId)
      else if (interrupts.exitCode === null) output.failure(error, recipientId)
    }
    const results = await node.send({ ...options, recipientIds: recipients, onResult })
    const failed = results.find(({ success }) => !success)
    return failed ? exitCode(failed.error) : 0
  } finally {
    await node.destroy()
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
