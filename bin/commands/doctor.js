'use strict'

const { CHANNEL, CONNECTION, nodeOptions } = require('../flags')
const { UNWELL } = require('../exit-codes')
const { connection } = require('../output')

const WAYS = { direct: 'directly', punched: 'directly, through NATs', relayed: 'by the relay', tunnel: 'by the tunnel' }
const SIGNS = { ok: 'ok', warning: 'warn', failed: 'FAIL', skipped: '-' }

module.exports = {
  summary: 'Find out what would keep transfers from working, and what to do',
  answers: true,
  saysGoodbye: true,
  flags: {
    peer: { value: 'KEY', help: 'also reach the machine where `ats-p2p doctor --wait` shows this key' },
    wait: { help: 'instead of checking, wait for the doctor of another machine, until interrupted' },
    ...CHANNEL,
    ...CONNECTION
  },
  examples: [
    ['ats-p2p doctor', 'All that transfers need'],
    ['ats-p2p doctor --wait', 'On the other machine: shows a key, and waits'],
    ['ats-p2p doctor --peer KEY', 'The way to that machine']
  ],

  check (values) {
    if (values.wait && values.peer !== undefined) return '--wait and --peer belong on two machines'
    if (values.peer !== undefined && !/^[0-9a-fA-F]{64}$/.test(values.peer)) {
      return '--peer takes the key of 64 hex digits that `ats-p2p doctor --wait` shows on the other machine'
    }
    return null
  },

  async run ({ values, output, interrupts }) {
    return values.wait ? wait(values, output, interrupts) : interrupts.race(examine(values, output))
  }
}

/** Makes the checks and says what each found. The exit code: 0 if nothing stands in the way. */
async function examine (values, output) {
  const { doctor } = require('../..')
  const { ok, checks, ways } = await doctor({ ...nodeOptions(values), peer: values.peer })
  for (const check of checks) output.say(describe(check), 'check', check)
  const failed = checks.filter(({ status }) => status === 'failed').map(({ check }) => check)
  const fine = `Nothing stands in the way of transfers: files go ${list(ways.map(way => WAYS[way]))}.`
  output.say(ok && ways.length > 0 ? fine : `To be mended: ${failed.join(', ')}.`, 'diagnosis', { ok, failed, ways })
  return ok ? 0 : UNWELL
}

async function wait (values, output, interrupts) {
  const { waitForDoctor } = require('../..')
  const waiting = await interrupts.race(waitForDoctor(nodeOptions(values)))
  try {
    output.say(`On the other machine: ats-p2p doctor --peer ${waiting.key}`, 'waiting', { key: waiting.key })
    interrupts.signal.addEventListener('abort', () => waiting.close(), { once: true })
    for await (const peer of waiting) output.say(`Reached: ${connection(peer)}`, 'reached', peer)
  } finally {
    await waiting.close()
  }
}

/** The ways that files go, the best one first. */
function list ([first, ...others]) {
  return [first, ...others.map(other => `else ${other}`)].join(', ')
}

function describe ({ check, status, found, advice }) {
  const line = `${SIGNS[status].padEnd(5)} ${check.padEnd(11)} ${found}`
  return advice === undefined ? line : `${line}\n${' '.repeat(18)}→ ${advice}`
}
