'use strict'

// The help texts, made from the tables of the commands.

const { NAMES, headings, load } = require('./commands')
const { exitTable } = require('./exit-codes')
const { OUTPUT } = require('./flags')

const WIDTH = 80
const COLUMN = 26
const LONGEST_NAME = Math.max(...NAMES.map(name => name.length))

const SOURCES = 'What no option says comes from the environment, then from .ats/config in this folder or the nearest one ' +
  'above that has it, then from ~/.ats/config.'

/** The help of the program. */
function usage () {
  const lines = headings().map(([heading, names]) => {
    const commands = names.map(name => row(name, load(name).summary, LONGEST_NAME + 1))
    return `${heading}:\n${commands.join('\n')}`
  })
  return `Peer-to-peer file transfer for AI agents.

Usage: ats-p2p COMMAND [OPTIONS]

${lines.join('\n\n')}

More:
${row('ats-p2p help COMMAND', 'what a command does, and its options')}
${row('ats-p2p --version', 'the version')}

${wrapped(`Options may stand before the command or behind it. ${SOURCES}`, 0)}

Exit codes:
${exitTable()}
`
}

/** The help of a command. */
function commandHelp (name, command) {
  const { details = [], examples = [], actions = {} } = command
  const parts = [
    wrapped(command.summary, 0),
    `Usage: ats-p2p ${synopsis(name, command)} [OPTIONS]${command.passesOn ? ` [-- ${command.passesOn}]` : ''}`,
    Object.entries(actions).map(([usage, help]) => row(usage, help)).join('\n'),
    ...groupsOf(command).map(([group, flags]) => `${group}:\n${flags.map(([flag, about]) => row(spelling(flag, about), describe(about))).join('\n')}`),
    ...details.map(text => wrapped(text, 0)),
    Object.hasOwn(command.flags, 'ats-url') ? wrapped(SOURCES, 0) : '',
    examples.length > 0 ? `Examples:\n${examples.map(([line, about]) => `  ${about}:\n    ${line}`).join('\n')}` : ''
  ]
  return `${parts.filter(part => part !== '').join('\n\n')}\n`
}

/** The options of a command under their headings, its own first: `[heading, [[flag, about], …]]`. */
function groupsOf (command) {
  const groups = new Map([['Options', []]])
  for (const [flag, about] of Object.entries({ ...command.flags, ...OUTPUT })) {
    const group = about.group ?? 'Options'
    groups.set(group, [...groups.get(group) ?? [], [flag, about]])
  }
  return [...groups].filter(([, flags]) => flags.length > 0)
}

/** How an option is written: `-u, --ats-url URL, --url`. */
function spelling (flag, { value, short, aliases = [] }) {
  const others = aliases.map(alias => `, --${alias}`).join('')
  return `${short ? `-${short}, ` : ''}--${flag}${value === undefined ? '' : ` ${value}`}${others}`
}

/** What an option does, and what holds without it. */
function describe ({ help, variable, otherwise }) {
  const source = [variable, otherwise].filter(Boolean).join('; ')
  return source === '' ? help : `${help} (${source})`
}

function synopsis (name, { positionals = [] }) {
  return [name, ...positionals].join(' ')
}

/** A term and what it means, in two columns. */
function row (term, meaning, column = COLUMN) {
  const text = wrapped(meaning, column + 3)
  return term.length < column ? `  ${term.padEnd(column)} ${text}` : `  ${term}\n${' '.repeat(column + 3)}${text}`
}

/** A text in lines that fit, those behind the first one indented. */
function wrapped (text, indent) {
  const lines = ['']
  for (const word of text.split(' ')) {
    const line = lines.at(-1)
    if (line !== '' && indent + line.length + 1 + word.length > WIDTH) lines.push(word)
    else lines[lines.length - 1] = line === '' ? word : `${line} ${word}`
  }
  return lines.join(`\n${' '.repeat(indent)}`)
}

module.exports = { SOURCES, commandHelp, describe, groupsOf, synopsis, usage }
