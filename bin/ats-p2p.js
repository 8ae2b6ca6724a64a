#!/usr/bin/env node
'use strict'

// The command line: reads the arguments, runs one command, and turns its outcome into an exit code.

// First of all: a signal may come while the rest is loaded.
const { Interrupts } = require('./interrupts')
const interrupts = new Interrupts()

const { Misuse, asksForJson, commandOf, findCommand, parse } = require('./arguments')
const { OUTPUT_LOST, USAGE_ERROR, exitCode } = require('./exit-codes')
const { commandHelp, usage } = require('./help')
const { Output } = require('./output')

const HELP = ['--help', '-h']
const VERSION = ['--version', '-V']

// How long what was said may take to be read, once the command was interrupted.
const LAST_WORDS_MS = 100

const output = new Output()

process.on('uncaughtException', (error) => {
  output.failure(error)
  process.exit(exitCode(error))
})
// Node's own way of showing them is for whoever writes programs.
process.removeAllListeners('warning')
process.on('warning', ({ name, code, message }) => output.warning(code, name === 'AtsP2pWarning' ? message : `${name}: ${message}`))

async function main (argv) {
  output.json = asksForJson(argv)
  const { name, args } = findCommand(argv)
  if (name === undefined) return withoutCommand(args)
  let command
  try {
    if (name === 'help') return help(args)
    command = commandOf(name)
    return await run(name, command, parse(command, args))
  } catch (error) {
    if (error instanceof Misuse) return misused(error.message, command && name)
    throw error
  }
}

function withoutCommand (args) {
  if (args.some(arg => VERSION.includes(arg))) output.print(`${require('../package.json').version}\n`)
  else if (args.some(arg => HELP.includes(arg))) output.print(usage())
  else if (args.length > 0) return misused(`which command? ${args.join(' ')} names none`)
  else {
    output.printError(usage())
    return USAGE_ERROR
  }
  return 0
}

/** `help`, and `help COMMAND`. */
function help (args) {
  const [name, surplus] = args.filter(arg => !arg.startsWith('-'))
  if (surplus !== undefined) throw new Misuse(`"${surplus}" is one argument too many`)
  output.print(name === undefined ? usage() : commandHelp(name, commandOf(name)))
  return 0
}

async function run (name, command, { values, positionals, rest }) {
  if (values.help) {
    output.print(commandHelp(name, command))
    return 0
  }
  // The addon looks there when it makes its first node.
  if (values.verbose) process.env.ATS_P2P_LOG ||= 'debug'
  const { json = false, quiet = false } = values
  const answers = typeof command.answers === 'function' ? command.answers(positionals, values) : command.answers ?? false
  Object.assign(output, { json, quiet, answers })
  try {
    const problem = command.check?.(values, positionals, rest) ?? surplus(command, positionals)
    if (problem) return misused(problem, name)
    if (command.goodbyeMs) interrupts.limit(command.goodbyeMs)
    const running = command.run({ values, positionals, rest, output, interrupts })
    // What has nothing to put in order is left where it stands.
    const outcome = await (command.saysGoodbye ? running : interrupts.race(running))
    return interrupts.exitCode ?? outcome ?? 0
  } catch (error) {
    if (interrupts.exitCode === null) output.failure(error)
    return interrupts.exitCode ?? exitCode(error)
  }
}

function surplus ({ positionals: wanted = [] }, given) {
  if (wanted.at(-1)?.endsWith('...')) return null
  return given.length > wanted.length ? `"${given[wanted.length]}" is one argument too many` : null
}

function misused (problem, command) {
  const help = command ? `ats-p2p ${command} --help` : 'ats-p2p --help'
  output.note('failed', { code: 'ATS_P2P_INVALID_ARGUMENT', message: problem, retryable: false })
  output.problem(`${problem}\nSee: ${help}`)
  return USAGE_ERROR
}

/** Lets the process end by itself once what was said is read; one that was interrupted waits for no reader. */
async function end (code) {
  if (interrupts.exitCode === null) {
    process.exitCode = code
    interrupts.close()
    await output.flushed()
    // What was to be told, and is not, was all that was asked for.
    if (code === 0 && output.lost && output.answers) process.exitCode = OUTPUT_LOST
    return
  }
  await Promise.race([output.flushed(), new Promise(resolve => setTimeout(resolve, LAST_WORDS_MS))])
  process.exit(code)
}

main(process.argv.slice(2)).then(end)
