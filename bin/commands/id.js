'use strict'

const fs = require('node:fs')
const { IDENTITY, SCOPE, nodeOptions } = require('../flags')
const { quoted, table } = require('../output')

// A seed is two short lines; whatever is much longer is none.
const MAX_SEED_BYTES = 64 * 1024

module.exports = {
  summary: 'Show who this agent is to others; move or renew that',
  answers: true,
  positionals: ['[ACTION]', '[FILE]'],
  actions: {
    show: 'the identity of this actor, as others see it (if no action is named)',
    'export [FILE]': 'write the seed, the secret behind it, for another machine (stdout)',
    'import FILE': 'take over a seed that was exported; - reads stdin',
    rotate: 'make a new seed, which peers accept by the word of the old one',
    new: 'make a new seed, where the old one was lost to others: peers have to accept it'
  },
  flags: {
    force: { help: 'import, new: replace the seed that there is; it is kept beside' },
    ...SCOPE,
    identity: IDENTITY.identity
  },
  examples: [
    ['ats-p2p id', 'What to tell whoever is to know this agent by its identity'],
    ['ats-p2p id export | ssh other-machine ats-p2p id import -', 'The same identity on another machine']
  ],

  check (values, [action = 'show', file, surplus]) {
    if (!Object.hasOwn(ACTIONS, action)) return `there is nothing called "${action}" to do with an identity`
    if (action === 'import' && file === undefined) return 'from which file? - reads stdin'
    const unwanted = action === 'import' || action === 'export' ? surplus : file
    return unwanted === undefined ? null : `"${unwanted}" is one argument too many`
  },

  async run ({ values, positionals: [action = 'show', file], output }) {
    const { identity } = require('../..')
    await ACTIONS[action](identity, { options: nodeOptions(values), replace: values.force ?? false, file, output })
  }
}

const ACTIONS = {
  async show (identity, { options, output }) {
    const shown = await identity.show(options)
    output.say(facts(shown), 'identity', shown)
  },

  async export (identity, { options, file, output }) {
    const seed = await identity.export(options)
    if (file === undefined) return output.print(seed)
    write(file, seed)
    output.say(
      `The seed is in ${quoted(file)}: whoever reads it can pass for you. On the other machine:\n` +
      `ats-p2p id import ${quoted(file)}`, 'exported', { file })
  },

  async import (identity, { options, replace, file, output }) {
    const imported = await identity.import(await read(file), { ...options, replace })
    output.say(facts(imported), 'imported', imported)
  },

  async rotate (identity, { options, output }) {
    const rotated = await identity.rotate(options)
    output.say(facts(rotated), 'rotated', rotated)
  },

  async new (identity, { options, replace, output }) {
    const made = await identity.create({ ...options, replace })
    output.say(facts(made), 'created', made)
  }
}

async function read (file) {
  let text = ''
  try {
    for await (const chunk of file === '-' ? process.stdin : fs.createReadStream(file)) {
      text += chunk
      if (text.length > MAX_SEED_BYTES) throw new Error('it is too long for a seed')
    }
    return text
  } catch (error) {
    throw Object.assign(new Error(`the seed can't be read from ${file}: ${error.message}`), { code: 'ATS_P2P_NOT_READABLE' })
  }
}

/** Writes a file that only this user can read, and replaces none. */
function write (file, text) {
  try {
    fs.writeFileSync(file, text, { mode: 0o600, flag: 'wx' })
  } catch (error) {
    const code = error.code === 'EEXIST' ? 'ATS_P2P_ALREADY_EXISTS' : 'ATS_P2P_NOT_WRITABLE'
    throw Object.assign(new Error(`the seed can't be written to ${file}: ${error.message}`), { code })
  }
}

function facts ({ identity, actorId, atsUrl, organization, project, seed, kept }) {
  return table([
    ['Identity', identity],
    ['Actor', actorId],
    ['Service', `${atsUrl} (organization ${organization}, project ${project})`],
    ['Seed', seed],
    ['Old seed', kept]
  ])
}
