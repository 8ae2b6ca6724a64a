'use strict'

// Reads arguments by the tables of the commands.

const { parseArgs } = require('node:util')
const { NAMES, load } = require('./commands')
const { OUTPUT } = require('./flags')
const { nearest } = require('../lib/unknown')

// The package that this one replaces took all its options with each of its commands.
const ORIGINAL_FLAGS = ['to', 'channel', 'save-dir', 'ats-url', 'actor-id', 'max-size', 'timeout']

/** Whether lines of JSON are asked for, as far as arguments say that cannot be read as a whole. */
function asksForJson (args) {
  const [options] = [args.includes('--') ? args.slice(0, args.indexOf('--')) : args]
  const formats = options.flatMap((arg, at) => {
    if (arg === '--json') return ['json']
    if (arg === '--format' || arg === '-f') return [options[at + 1]]
    return /^(?:--format=|-f=?)(.+)$/.exec(arg)?.slice(1) ?? []
  })
  return formats.at(-1) === 'json'
}

/** What is wrong with the arguments, in words for who typed them. */
class Misuse extends Error {}

/**
 * Parts the arguments of the program: `{ name, args }`, the name of the command (undefined if there is none) and all
 * the others. Options may stand before it as well as behind.
 */
function findCommand (args) {
  for (let at = 0; at < args.length; at++) {
    if (args[at] === '--') break
    if (!args[at].startsWith('-') || args[at] === '-') return { name: args[at], args: args.toSpliced(at, 1) }
    if (takesNext(args[at])) at++
  }
  return { name: undefined, args }
}

/** Whether the argument behind this option is its value. Options that share a name agree on that. */
function takesNext (arg) {
  if (arg.includes('=')) return false
  const all = [OUTPUT, ...NAMES.map(name => load(name).flags)].flatMap(Object.entries)
  const isLong = arg.startsWith('--')
  const letter = arg.at(-1)
  return all.some(([name, { value, short, aliases = [] }]) => value !== undefined &&
    (isLong ? [name, ...aliases].includes(arg.slice(2)) : short === letter && isLetters(arg.slice(1, -1), all)))
}

/** Whether all of these letters are options without a value, so that the next letter is one of its own. */
function isLetters (letters, all) {
  return [...letters].every(letter => all.some(([, { value, short }]) => short === letter && value === undefined))
}

/**
 * The arguments of a command as `{ values, positionals, rest }`; `rest` is what stands behind `--`, for a command that
 * passes that on.
 */
function parse (command, args) {
  const flags = { ...command.flags, ...OUTPUT }
  const { positionals, tokens } = read(args, flags, command)
  const values = valuesOf(tokens, flags)
  const end = command.passesOn ? tokens.find(({ kind }) => kind === 'option-terminator') : undefined
  const rest = end === undefined ? [] : args.slice(end.index + 1)
  return { values, positionals: positionals.slice(0, positionals.length - rest.length), rest }
}

function read (args, flags, command) {
  try {
    return parseArgs({ args, options: options(flags), allowPositionals: true, tokens: true })
  } catch (error) {
    // Node explains at length how to pass a value that begins with a dash; the first sentence is enough.
    const problem = error.message.split(/\.? *\n|\. /)[0]
    throw new Misuse(problem + (error.code === 'ERR_PARSE_ARGS_UNKNOWN_OPTION' ? hint(problem, flags, command) : ''))
  }
}

/** The flags, their other names and the original's as `parseArgs` wants them. */
function options (flags) {
  const shaped = Object.entries(flags).flatMap(([flag, { value, short, aliases = [] }]) => {
    const type = value === undefined ? 'boolean' : 'string'
    return [[flag, short ? { type, short } : { type }], ...aliases.map(alias => [alias, { type }])]
  })
  const ignored = flags['ats-url'] ? ORIGINAL_FLAGS.map(flag => [flag, { type: 'string' }]) : []
  return Object.fromEntries([...ignored, ...shaped])
}

/** The values by the flags' own names; of one that is given twice the last one counts, unless it is for many. */
function valuesOf (tokens, flags) {
  const names = new Map(Object.entries(flags).flatMap(([flag, { aliases = [] }]) => [flag, ...aliases].map(name => [name, flag])))
  const values = {}
  for (const { kind, name, value } of tokens) {
    const flag = kind === 'option' ? names.get(name) : undefined
    if (flag === undefined) continue
    const { choices, multiple } = flags[flag]
    if (choices && !choices.includes(value)) throw new Misuse(`--${flag} must be ${choices.slice(0, -1).join(', ')} or ${choices.at(-1)}, not "${value}"`)
    if (flag === 'format') values.json = value === 'json'
    else if (multiple) (values[flag] ??= []).push(value)
    else values[flag] = value ?? true
  }
  return values
}

/** What an unknown option may have been meant to be. */
function hint (problem, flags, command) {
  const name = /'(?:-\w, )?--?([^' =]+)/.exec(problem)?.[1]
  if (name === undefined || name.length === 1) return ''
  const known = Object.entries(flags).flatMap(([flag, { aliases = [] }]) => [flag, ...aliases])
  const near = meant(name, known)
  if (near) return `; did you mean --${near}?`
  const owners = NAMES.filter(other => load(other) !== command && Object.hasOwn(load(other).flags, name))
  return owners.length > 0 ? `; it is an option of ${owners.join(', ')}` : ''
}

/** The one of `known` that `name` was meant to be, by a slip or by its beginning; undefined if there is none. */
function meant (name, known) {
  const near = nearest(name, Object.fromEntries(known.map(one => [one, true])))
  const begun = name.length > 1 ? known.filter(one => one.startsWith(name)) : []
  return near ?? (begun.length === 1 ? begun[0] : undefined)
}

/** The command of this name. */
function commandOf (name) {
  const command = load(name)
  if (command) return command
  const near = meant(name, [...NAMES, 'help'])
  throw new Misuse(`there is no command "${name}"${near ? `; did you mean ${near}?` : ''}`)
}

module.exports = { Misuse, asksForJson, commandOf, findCommand, meant, parse }
