'use strict'

const fs = require('node:fs')
const { pipeline } = require('node:stream/promises')
const { CHANNEL, CONNECTION, MAX_CONCURRENT, MAX_RATE, MAX_SIZE, PRESERVE, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { Exec, find } = require('../exec')
const { EXEC_FAILED, OUTPUT_LOST, exitCode } = require('../exit-codes')
const { amount, connection, entries, quoted } = require('../output')
const { asGiven } = require('../raw-arguments')
const { warnOfDefaultActor } = require('../warnings')

const DEFAULT_SAVE_DIR = './incoming'

// Characters of metadata that people are shown.
const LONGEST_SHOWN = 500

// Offers that came to nothing before a transfer began: another one may still come.
const PASSED_BY = new Set(['ALREADY_CLAIMED', 'ALREADY_ANSWERED', 'OFFER_EXPIRED', 'INVALID_OFFER'].map(code => `ATS_P2P_${code}`))

// Offers whose place here is taken by something that stays.
const TAKEN = new Set(['ATS_P2P_ALREADY_EXISTS', 'ATS_P2P_NOT_A_FILE'])

// What a sender is told whose file is kept out by what is there.
const NAME_TAKEN = 'the recipient has another file of this name and keeps it'

module.exports = {
  summary: 'Accept the files that are offered to this agent, until interrupted',
  saysGoodbye: true,
  flags: {
    'save-dir': { value: 'DIR', short: 'd', help: 'where files are saved; made if missing', otherwise: DEFAULT_SAVE_DIR, completes: 'folder' },
    existing: { value: 'WHAT', help: 'what becomes of a file whose name is taken there: rename gives it a number, overwrite replaces a file that is there, skip keeps that and takes no other', otherwise: 'rename', choices: ['rename', 'overwrite', 'skip'] },
    allow: { value: 'ID', help: 'take files from this actor only, or from ID=IDENTITY; may be repeated', otherwise: 'anyone', multiple: true, completes: 'peer' },
    once: { help: 'end with the first transfer: with 0 once its file has arrived, else with the exit code of what it failed by' },
    stdout: { help: 'write the bytes of one file to stdout, and to no disk; all that is said goes to stderr' },
    exec: { value: 'PROGRAM', help: 'run a program for each file that has arrived, with the arguments behind -- and the path of the file', completes: 'command' },
    ...VERIFIED,
    ...CHANNEL,
    ...MAX_SIZE,
    ...MAX_CONCURRENT,
    ...MAX_RATE,
    ...PRESERVE,
    ...TIMEOUT,
    ...CONNECTION
  },
  passesOn: 'ARGUMENT…',
  details: [
    'With --exec no shell is involved: the last argument is the absolute path of the file, which begins with no dash, and ATS_P2P_FILE, ATS_P2P_FILE_NAME, ' +
    'ATS_P2P_HASH, ATS_P2P_SIZE, ATS_P2P_SENDER, ATS_P2P_SENDER_IDENTITY, ATS_P2P_VERIFIED (1 or 0), ATS_P2P_TRANSFER_ID, ATS_P2P_TASK_ID and ATS_P2P_METADATA (JSON, or empty) say the rest. ' +
    'The API key, and names and passwords of proxies, are not in its environment. What it prints goes to stderr. At most four run at once. ' +
    'What it ends with is told, and with --once an end other than 0 is exit code 20.',
    'With --stdout, which is --once too, the bytes go out as they come, and the exit code says whether they are whole and verified: throw away what came if it is not 0.',
    'With --once one offer is taken at a time, and the others are left as they are. An offer that is declined, because of --allow, --max-size or --existing skip, ends nothing.',
    'With --existing skip a file that is there with the same content counts as received, and no byte of it moves.'
  ],
  examples: [
    ['ats-p2p listen --actor-id agent-b', 'All files for agent-b, into ./incoming'],
    ['ats-p2p listen --actor-id agent-b --allow agent-a --save-dir /srv/inbox', 'Those of agent-a alone, into a folder'],
    ['ats-p2p listen --actor-id agent-b --once --json', 'One file, then the next command'],
    ['ats-p2p listen --actor-id agent-b --stdout | tar -x', 'One file, an archive, to another program as it comes'],
    ['ats-p2p listen --actor-id agent-b --exec python3 -- import.py --quiet', 'Each file to a program: python3 import.py --quiet /…/incoming/data.csv']
  ],

  check (values, positionals, rest) {
    if (values.exec === undefined && rest.length > 0) return `"${rest[0]}" is for a program, and --exec names none`
    if (values.stdout && (values.exec ?? values['save-dir'] ?? values.existing) !== undefined) return '--stdout writes no file: it goes without --save-dir, --existing and --exec'
    if (values.exec !== undefined && find(values.exec) === null) return `--exec: there is no program "${values.exec}" that can be run`
    return numberProblem(values)
  },

  async run ({ values, rest, output, interrupts }) {
    if (values.stdout) output.leaveStdout()
    const { createNode } = require('../..')
    const node = await createNode(nodeOptions(values))
    await warnOfDefaultActor(nodeOptions(values), output)
    const saveDir = asGiven(values['save-dir'] ?? DEFAULT_SAVE_DIR)
    const exec = values.exec === undefined ? null : new Exec(values.exec, rest, { output, interrupts })
    const broken = new Promise((resolve, reject) => node.on('error', reject))
    try {
      node.on('connected', (service) => {
        const { actorId, channel, atsUrl } = service
        output.say(`Listening as ${quoted(actorId)} on channel ${quoted(channel)} of ${atsUrl}, ${values.stdout ? 'for one file, which goes to stdout' : `saving to ${saveDir}`}`, 'connected', service)
      })
      node.on('disconnected', ({ reason }) => {
        output.note('disconnected', { reason })
        output.problem(`the task service is not reached, trying again: ${quoted(reason)}`)
      })
      node.on('peer_connected', (peer) => {
        output.say(`Path to ${quoted(peer.peerId)}: ${connection(peer)}`, 'peer_connected', peer)
      })
      node.on('transfer_start', (transfer) => {
        output.say(`Receiving ${describe(transfer)}, ${standing(transfer)}${said(transfer)}`, 'transfer_start', transfer)
      })
      node.on('transfer_progress', transfer => output.progress(transfer))
      node.on('transfer_complete', (transfer) => {
        output.ended(transfer.transferId)
        const what = transfer.filePath === undefined ? `Received ${quoted(transfer.fileName)}` : `Saved ${quoted(transfer.filePath)}${transfer.tree ? `, ${entries(transfer.tree)}` : ''}`
        output.say(`${what}, SHA-256 ${transfer.fileHash} verified`, 'transfer_complete', transfer)
        if (!values.once && !values.stdout) exec?.run(transfer)
      })
      node.on('transfer_failed', (transfer) => {
        output.ended(transfer.transferId)
        output.note('transfer_failed', transfer)
        output.problem(`${describe(transfer)} failed: ${quoted(transfer.reason)} (${transfer.code})`)
      })
      const place = { saveDir, existing: values.existing }
      if (values.once && !values.stdout) prepare(saveDir)
      // What an earlier process has left goes on to the disk, and is not the file that is asked for.
      const counts = arrived => !values.stdout || arrived.filePath === undefined
      const take = values.stdout ? offer => print(offer, output) : into(place)
      if (values.once || values.stdout) return await Promise.race([once(node, take, exec, counts), interrupts.wait(), broken])
      node.watch(place)
      await Promise.race([interrupts.wait(), broken])
    } finally {
      await Promise.all([node.destroy(), exec?.ended()])
    }
  }
}

/** Makes the folder, and looks whether files may be made in it, as a watch that saves to one does. */
function prepare (saveDir) {
  try {
    fs.mkdirSync(saveDir, { recursive: true })
    fs.accessSync(saveDir, fs.constants.W_OK | fs.constants.X_OK)
  } catch (error) {
    throw Object.assign(new Error(`${saveDir} can't be written: ${error.message}`), { code: 'ATS_P2P_NOT_WRITABLE', retryable: false })
  }
}

/** Takes files until one transfer is over; resolves with the exit code that it deserves. */
async function once (node, take, exec, counts) {
  const offers = []
  let takes = false
  let isOver = false
  // What goes to stdout is there a moment after it is known to be whole.
  let taking
  const transfer = new Promise((resolve, reject) => {
    const next = async () => {
      if (takes || isOver || offers.length === 0) return
      takes = true
      taking = take(offers.shift()).catch(error => (PASSED_BY.has(error.code) && !(error instanceof Broken)) || reject(error))
      await taking
      takes = false
      next()
    }
    // One that an earlier process has begun is taken up again, and offered by no event.
    node.on('transfer_complete', (arrived) => {
      if (!counts(arrived)) return
      isOver = true
      Promise.resolve(taking).then(() => resolve(arrived))
    })
    node.on('file', (offer) => { offers.push(offer); next() })
  })
  node.watch()
  try {
    const arrived = await transfer
    isOver = true
    return exec === null || await exec.run(arrived) ? 0 : EXEC_FAILED
  } catch (error) {
    // What became of it was told when it failed.
    return error instanceof Broken && error.isOfOutput ? OUTPUT_LOST : exitCode(error)
  } finally {
    isOver = true
  }
}

/** What takes a file into a folder. */
function into (place) {
  return offer => offer.accept(place).catch((error) => {
    if (!TAKEN.has(error.code)) throw error
    return offer.reject(NAME_TAKEN).catch(() => {})
  })
}

/** What ended a file that had begun to go to stdout: no other one can follow. */
class Broken extends Error {
  constructor (cause) {
    super(cause.message, { cause })
    this.code = cause.code
  }

  /** Whether nobody could read what was written. */
  get isOfOutput () {
    return this.cause.syscall === 'write'
  }
}

/** Takes a file to stdout. */
async function print (offer, output) {
  const stream = await offer.accept()
  try {
    await pipeline(stream, process.stdout, { end: false })
    await new Promise((resolve, reject) => process.stdout.write('', error => error ? reject(error) : resolve()))
  } catch (error) {
    const broken = new Broken(error)
    if (broken.isOfOutput) output.problem(`${quoted(offer.fileName)} can't be written to stdout: ${error.message}`)
    throw broken
  }
}

/** What is known of who sends, in a word. */
function standing ({ verified, firstUse }) {
  if (!verified) return 'unverified'
  return firstUse ? 'first use' : 'verified'
}

/** What the sender says of the file besides, on a line of its own. */
function said ({ metadata }) {
  if (metadata === null) return ''
  const text = JSON.stringify(metadata)
  return `\nMetadata ${quoted(text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text)}`
}

function describe (transfer) {
  return `${quoted(transfer.fileName)} (${amount(transfer)}) from ${quoted(transfer.peerId)}`
}
