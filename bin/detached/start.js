'use strict'

// Starts the process in which a detached `send` goes on, and waits until it has offered the file, or failed.

const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { exitCode } = require('../exit-codes')
const { homeFolder, privateFolder } = require('./home')
const { sweep } = require('./state')

const ENTRY = path.join(__dirname, 'process.js')

/** Has a process send to each recipient, and resolves with an exit code once all have offered the file, or failed. */
async function detach ({ values, output, interrupts, ...rest }) {
  const recipients = [...new Set(values.to)]
  const begin = recipient => begun({ values: { ...values, to: [recipient] }, output, interrupts, ...rest })
  if (recipients.length === 1) return begin(recipients[0])
  const outcomes = await Promise.all(recipients.map(recipient => begin(recipient).catch((error) => {
    if (interrupts.exitCode === null) output.failure(error, recipient)
    return exitCode(error)
  })))
  return outcomes.find(outcome => outcome !== 0) ?? 0
}

/** Says what a process has offered, and leaves it to itself. */
async function begun ({ values, positionals: files, output, interrupts }) {
  const { log, child } = start()
  // It resolves nothing by a folder that may be gone by then.
  const positionals = files.map(file => path.resolve(file))
  let ended = null
  const over = new Promise((resolve, reject) => {
    child.on('error', reject)
    // Unlike its exit, it comes behind all that was said.
    child.on('disconnect', () => reject(new Error(`the process in the background ended unexpectedly; its log: ${log}`)))
    child.on('message', (message) => {
      if (message.failure) return reject(failed(message.failure))
      if (message.ended !== undefined) ended = message.ended
      else say(output, message)
      resolve()
    })
  })
  const abort = () => { if (child.connected) child.send({ end: true }) }
  interrupts.signal.addEventListener('abort', abort)
  try {
    child.send({ values, positionals, log })
    await over
    return ended ?? 0
  } finally {
    interrupts.signal.removeEventListener('abort', abort)
    if (child.connected) child.disconnect()
    child.unref()
  }
}

function start () {
  const trouble = (error) => {
    throw Object.assign(new Error(`${homeFolder()} cannot be used for this user's state: ${error.message}`), { code: 'ATS_P2P_STATE', retryable: false })
  }
  try {
    // It has the transfer's id for a name once there is one.
    const log = path.join(privateFolder('logs'), `${crypto.randomUUID()}.log`)
    sweep()
    const file = fs.openSync(log, 'ax', 0o600)
    const child = spawn(process.execPath, [ENTRY], {
      // In a session of its own no signal of this terminal or group reaches it.
      detached: true,
      windowsHide: true,
      stdio: ['ignore', file, file, 'ipc'],
      env: { ...process.env, ATS_P2P_HOME: homeFolder() }
    })
    fs.closeSync(file)
    return { log, child }
  } catch (error) {
    return trouble(error)
  }
}

function say (output, { text, event, facts }) {
  const { detached, transferId } = facts
  const more = detached
    ? `\nGoes on in the background: \`ats-p2p wait ${transferId}\` follows it, \`ats-p2p cancel ${transferId}\` ends it\nProcess ${detached.pid}, log ${detached.log}`
    : ''
  output.say(`${text}${more}`, event, facts)
}

function failed ({ message, ...facts }) {
  return Object.assign(new Error(message), facts)
}

module.exports = { detach }
