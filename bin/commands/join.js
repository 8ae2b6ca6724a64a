'use strict'

const readline = require('node:readline')
const { Writable } = require('node:stream')
const { quoted } = require('../output')

// A token is one line; whatever is much longer is none.
const MAX_TOKEN_BYTES = 4096
const PREFIX = 'atsp2p_invitation_'
const INVITATION = new RegExp(`^${PREFIX}[0-9a-f]{64}$`)

module.exports = {
  summary: "Take a hub's invitation: get a key, and use that hub from now on",
  // A hub gives the key once: what it was asked for is waited for, and kept.
  saysGoodbye: true,
  positionals: ['URL'],
  flags: {
    ca: { value: 'FILE', help: 'trust the certificate authorities in this file too', variable: 'ATS_P2P_CA', completes: 'file' },
    insecure: { help: 'send the invitation over plain HTTP to another machine, where others can read it' },
    replace: { help: 'put the hub in the place of the service, actor and key that are configured' }
  },
  examples: [
    ['ats-p2p join https://hub.example', 'Asks for the invitation, without showing it'],
    ['ats-p2p join https://hub.example < invitation', 'Reads it from a file']
  ],

  check (values, [url, surplus]) {
    if (url === undefined) return 'which hub? `ats-p2p hub invite` prints its URL'
    if (/^atsp2p_/.test(url) || /^atsp2p_/.test(surplus ?? '')) return 'an invitation is typed in or piped to stdin, never an argument, which others can see'
    return surplus === undefined ? null : `"${surplus}" is one argument too many`
  },

  async run ({ values, positionals: [url], output, interrupts }) {
    const { join } = require('../..')
    const token = process.stdin.isTTY ? await ask(interrupts) : await interrupts.race(readAll())
    if (token === null) return
    if (!INVITATION.test(token)) {
      const what = token === '' ? 'no invitation came' : token.startsWith(PREFIX) ? 'that is not the whole of an invitation, or more' : 'that is no invitation'
      throw Object.assign(new Error(`${what}: \`ats-p2p hub invite\`, where the hub runs, prints one, which begins with ${PREFIX}`), { code: 'ATS_P2P_INVALID_ARGUMENT' })
    }
    const joined = await join(url, token, { ca: values.ca, insecure: values.insecure, replace: values.replace })
    const notes = joined.notes.map(note => `\nBut ${note}`).join('')
    output.say(
      `This user is ${quoted(joined.actorId)} at ${joined.url} from now on; the key is in ${quoted(joined.file)}.${quoted(notes)}\n` +
      'ats-p2p listen and ats-p2p send work at once.', 'joined', joined)
  }
}

/** Reads stdin to its end; what is too long for a token stops it. */
async function readAll () {
  let text = ''
  for await (const chunk of process.stdin) {
    text += chunk
    if (text.length > MAX_TOKEN_BYTES) break
  }
  return text.trim()
}

/** Asks for the token without showing it; null once interrupted. */
function ask (interrupts) {
  const silent = new Writable({ write: (chunk, encoding, done) => done() })
  const lines = readline.createInterface({ input: process.stdin, output: silent, terminal: true })
  // Not before: what is typed is no longer shown.
  process.stderr.write('Invitation: ')
  return new Promise((resolve) => {
    lines.once('line', (line) => { resolve(line.trim()); lines.close() })
    lines.once('SIGINT', () => process.kill(process.pid, 'SIGINT'))
    lines.once('close', () => resolve(''))
    interrupts.wait().then(() => { resolve(null); lines.close() })
  }).finally(() => process.stderr.write('\n'))
}
