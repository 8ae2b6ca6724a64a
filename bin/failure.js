'use strict'

// What an error is called on the command line.

// The flags whose names differ from those of the library's options; the others are the same words with dashes.
const FLAGS = {
  filePath: 'FILE',
  filePaths: 'FILE',
  id: 'TRANSFER',
  recipientId: '--to',
  organization: '--org',
  maxFileSize: '--max-size',
  allowedPeers: '--allow',
  allowedHosts: '--allow-host',
  trustedProxies: '--trust-proxy',
  expiresIn: '--expires'
}

/** What an error says, for people; its code stands behind it, if it has one. */
function sentence (error) {
  if (error?.syscall === 'uv_cwd') return 'the folder that this command was started in is gone: change into one that is there'
  if (!error?.code) return `something unforeseen: ${error instanceof Error ? error.message || error.name : String(error)}. --verbose says more`
  const message = error.code === 'ATS_P2P_INVALID_ARGUMENT' ? asFlags(error.message) : error.message.replace(/\bmaxBytes\b/, flagOf)
  // Node's own errors begin with their code.
  return message.startsWith(error.code) ? message : `${message} (${error.code})`
}

/** The message about an argument, `call: option must…` or without the call, with the flag that this option is here. */
function asFlags (message) {
  return message
    .replace(/^(each of )?[\w.]+: (\w+)(?= (?:must|is required))/, (all, each = '', option) => each + flagOf(option))
    .replace(/^(each of )?([a-z]+)(?= must)/i, (all, each = '', option) => isOption(option) ? each + flagOf(option) : all)
    .replace(/^[a-z]+(?:\.[a-z]+)?: (?=the )/i, '')
}

/** Whether a word is the name of an option that some command has. */
function isOption (word) {
  const { NAMES, load } = require('./commands')
  return NAMES.some(name => Object.hasOwn(load(name).flags, flagOf(word).slice(2)))
}

/** What an option of the library is on the command line. */
function flagOf (option) {
  return FLAGS[option] ?? `--${option.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)}`
}

module.exports = { flagOf, sentence }
