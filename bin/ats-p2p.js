#!/usr/bin/env node
'use strict'

// The command line: reads the arguments, runs one command, and turns its outcome into an exit code.

// First of all: a signal may come while the rest is loaded.
const { Interrupts } = require('./interrupts')
const interrupts = new Interrupts()

const { parseArgs } = require('node:util')
const { OUTPUT_LOST, USAGE_ERROR, exitCode, exitTable } = require('./exit-codes')
const { Output } = require('./output')

const COMMANDS = {
  send: () => require('./commands/send'),
  listen: () => require('./commands/listen'),
  status: () => require('./commands/status'),
  resume: () => require('./commands/resume'),
  cancel: () => require('./commands/cancel'),
  verify: () => require('./commands/verify'),
  id: () => require('./commands/id'),
  peers: () => require('./commands/peers'),
  doctor: () => require('./commands/doctor'),
  hub: () => require('./commands/hub'),
  join: () => require('./commands/join'),
  dht: () => require('./commands/dht'),
  demo: () => require('./commands/demo')
}

// How long what was said may take to be read, once the command was interrupted.
const LAST_WORDS_MS = 100

const output = new Output()

// Whether what is said is all that the command is for: then it has failed where that is lost.
let answers = true

// The package that this one replaces took all its options with each of its commands.
const ORIGINAL_FLAGS = ['to', 'channel', 'save-dir', 'ats-url', 'actor-id', 'max-size', 'timeout']

async function main (args) {
  const [name, ...rest] = args
  if (name === undefined) {
    process.stderr.write(usage())
    return USAGE_ERROR
  }
  if (name === '--help' || name === '-h' || name === 'help') {
    output.print(usage())
    return 0
  }
  if (name === '--version' || name === '-V') {
    output.print(`${require('../package.json').version}\n`)
    return 0
  }
  if (!Object.hasOwn(COMMANDS, name)) return misused(`there is no command "${name}"`)
  return run(name, COMMANDS[name](), rest)
}

async function run (name, command, args) {
  let parsed
  try {
    parsed = parseArgs({
      args,
      allowPositionals: true,
      options: { help: { type: 'boolean', short: 'h' }, json: { type: 'boolean' }, verbose: { type: 'boolean' }, ...options(command) }
    })
  } catch (error) {
    // Node explains at length how to pass a value that begins with a dash; the first sentence is enough.
    return misused(error.message.split(/\.? *\n|\. /)[0], name)
  }
  const { values, positionals } = parsed
  if (values.help) {
    output.print(commandHelp(name, command))
    return 0
  }
  // The addon looks there when it makes its first node.
  if (values.verbose) process.env.ATS_P2P_LOG ||= 'debug'
  output.json = values.json ?? false
  answers = typeof command.answers === 'function' ? command.answers(positionals) : command.answers ?? false
  try {
    const problem = command.check?.(values, positionals) ?? surplus(command, positionals)
    if (problem) return misused(problem, name)
    if (command.goodbyeMs) interrupts.limit(command.goodbyeMs)
    const running = command.run({ values, positionals, output, interrupts })
    // What has nothing to put in order is left where it stands.
    const outcome = await (command.saysGoodbye ? running : interrupts.race(running))
    return interrupts.exitCode ?? outcome ?? 0
  } catch (error) {
    if (interrupts.exitCode === null) output.failure(error)
    return interrupts.exitCode ?? exitCode(error)
  }
}

function options ({ flags }) {
  const accepted = Object.entries(flags).map(([flag, { value, multiple = false }]) => [flag, { type: value === undefined ? 'boolean' : 'string', multiple }])
  const ignored = flags['ats-url'] ? ORIGINAL_FLAGS.map(flag => [flag, { type: 'string' }]) : []
  return Object.fromEntries([...ignored, ...accepted])
}

function surplus ({ positionals: wanted = [] }, given) {
  return given.length > wanted.length ? `"${given[wanted.length]}" is one argument too many` : null
}

function misused (problem, command) {
  const help = command ? `ats-p2p ${command} --help` : 'ats-p2p --help'
  output.problem(`${problem}\nSee: ${help}`)
  return USAGE_ERROR
}

function usage () {
  const lines = Object.entries(COMMANDS).map(([name, load]) => `  ${synopsis(name, load()).padEnd(34)} ${load().summary}`)
  return `Peer-to-peer file transfer for AI agents.

Usage: ats-p2p COMMAND [OPTIONS]

${lines.join('\n')}

  ats-p2p COMMAND --help             the options of a command
  ats-p2p --version                  the version

Exit codes:
${exitTable()}
`
}

function commandHelp (name, command) {
  const flags = Object.entries(command.flags).map(([flag, { value, help }]) => `  ${[`--${flag}`, value].filter(Boolean).join(' ').padEnd(24)} ${help}`)
  return `${command.summary}

Usage: ats-p2p ${synopsis(name, command)} [OPTIONS]
${actionHelp(command)}
${flags.join('\n')}
  ${'--json'.padEnd(24)} one JSON object a line instead of text
  ${'--verbose'.padEnd(24)} say on stderr what happens inside; ATS_P2P_LOG says in what detail
  ${'--help'.padEnd(24)} this text
`
}

/** What each action of a command does, for a command that has some. */
function actionHelp ({ actions = {} }) {
  const lines = Object.entries(actions).map(([usage, help]) => `\n  ${usage.padEnd(24)} ${help}`)
  return lines.length > 0 ? `${lines.join('')}\n` : ''
}

function synopsis (name, { positionals = [] }) {
  return [name, ...positionals].join(' ')
}

/** Lets the process end by itself once what was said is read; one that was interrupted waits for no reader. */
async function end (code) {
  if (interrupts.exitCode === null) {
    process.exitCode = code
    interrupts.close()
    await output.flushed()
    if (code === 0 && output.lost && answers) process.exitCode = OUTPUT_LOST
    return
  }
  await Promise.race([output.flushed(), new Promise(resolve => setTimeout(resolve, LAST_WORDS_MS))])
  process.exit(code)
}

main(process.argv.slice(2)).then(end)
