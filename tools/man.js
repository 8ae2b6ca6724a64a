'use strict'

// Makes man/ats-p2p.1 from the tables of the command line: `node tools/man.js`; with --check it says whether the file
// is the one that they make.

const fs = require('node:fs')
const path = require('node:path')
const { headings, load } = require('../bin/commands')
const { EXITS } = require('../bin/exit-codes')
const { OUTPUT } = require('../bin/flags')
const { SOURCES, describe, groupsOf, synopsis } = require('../bin/help')

const FILE = path.join(__dirname, '..', 'man', 'ats-p2p.1')

// Options with these headings are told once, for all commands that have them.
const COMMON = new Set(['Service and actor', 'Network', 'Identity', 'Output'])

const VARIABLES = {
  ATS_API_KEY: 'the key for a task service that asks for one',
  ATS_P2P_HOME: 'folder of this user\'s state: seed, known peers, open transfers (~/.ats-p2p)',
  ATS_P2P_LOG: 'what is said on stderr of what happens inside: error, warn, info, debug or trace',
  'HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY': 'by which proxies servers are reached',
  NODE_EXTRA_CA_CERTS: 'a file of certificate authorities that are trusted too, as Node.js has it'
}

const FILES = {
  '.ats/config': 'settings of a project, in its folder or the nearest one above that has it, in JSON: url, organization, project, actor.id, actor.type, actor.name, p2p.channel',
  '~/.ats/config': 'settings of this user: the same, and apiKey, p2p.ca, p2p.insecure',
  '~/.ats-p2p': 'state of this user, as ATS_P2P_HOME has it'
}

function page () {
  const names = headings().flatMap(([, names]) => names)
  return [
    '.\\" Made by tools/man.js; change the tables in bin/ instead.',
    '.TH ATS\\-P2P 1 "" "ats\\-p2p" "User Commands"',
    '.SH NAME',
    'ats\\-p2p \\- peer\\-to\\-peer file transfer for AI agents',
    '.SH SYNOPSIS',
    '.B ats\\-p2p',
    '.I COMMAND',
    '.RI [ OPTIONS ]',
    '.SH DESCRIPTION',
    text('Lets AI agents hand each other files, from one machine straight to another. A task service (ATS) carries the arrangement, a peer-to-peer network the bytes, encrypted from end to end; neither sees the file. The recipient checks the SHA-256 of what has arrived before the file appears under its name.'),
    '.PP',
    text(`Options may stand before the command or behind it. ${SOURCES} "ats-p2p config" shows what holds, and who said so.`),
    '.SH COMMANDS',
    ...names.flatMap(name => command(name, load(name))),
    ...commonGroups(names).flatMap(([heading, flags]) => [`.SH ${escape(heading.toUpperCase())}${heading === 'Output' ? '' : ' OPTIONS'}`, ...flags.flatMap(option)]),
    '.SH EXIT STATUS',
    ...EXITS.flatMap(([exit, meaning]) => ['.TP', `.B ${exit}`, text(meaning)]),
    '.SH ENVIRONMENT',
    ...Object.entries({ ...optionVariables(names), ...VARIABLES }).flatMap(([name, about]) => ['.TP', `.B ${escape(name)}`, text(about)]),
    '.SH FILES',
    ...Object.entries(FILES).flatMap(([name, about]) => ['.TP', `.I ${escape(name)}`, text(about)]),
    ''
  ].join('\n')
}

function command (name, about) {
  const { summary, actions = {}, details = [], examples = [], passesOn } = about
  return [
    `.SS ${escape(synopsis(name, about))}${passesOn ? escape(` [-- ${passesOn}]`) : ''}`,
    text(`${summary}.`),
    ...Object.entries(actions).flatMap(([usage, help]) => ['.TP', `.B ${escape(usage)}`, text(help)]),
    ...groupsOf(about).filter(([heading]) => !COMMON.has(heading)).flatMap(([, flags]) => flags.flatMap(option)),
    ...details.flatMap(detail => ['.PP', text(detail)]),
    ...(examples.length > 0 ? ['.PP', 'Examples:'] : []),
    ...examples.flatMap(([example, what]) => ['.PP', text(`${what}:`), '.PP', '.RS 4', '.nf', line(escape(example)), '.fi', '.RE'])
  ]
}

/** The options that are told once: `[heading, [[flag, about], …]]`. */
function commonGroups (names) {
  const groups = new Map()
  for (const [heading, flags] of names.flatMap(name => groupsOf(load(name)))) {
    if (!COMMON.has(heading)) continue
    groups.set(heading, new Map([...groups.get(heading) ?? [], ...flags]))
  }
  return [...groups].map(([heading, flags]) => [heading, [...flags]])
}

/** The variables that stand behind options. */
function optionVariables (names) {
  const flags = names.flatMap(name => Object.entries({ ...load(name).flags, ...OUTPUT }))
  const named = flags.filter(([, { variable }]) => variable !== undefined)
  return Object.fromEntries(named.map(([flag, { variable, help }]) => [variable, `${help} (--${flag})`]))
}

function option ([flag, about]) {
  const { value, short, aliases = [] } = about
  const names = [...(short ? [`-${short}`] : []), ...[flag, ...aliases].map(name => `--${name}`)]
  const taken = value === undefined ? '' : ` \\fI${escape(value)}\\fR`
  return ['.TP', names.map(name => `\\fB${escape(name)}\\fR${taken}`).join(', '), text(describe(about))]
}

/** A paragraph, in lines of the usual length. */
function text (words) {
  const lines = ['']
  for (const word of words.split(' ').map(escape)) {
    if (lines.at(-1) !== '' && lines.at(-1).length + word.length > 78) lines.push('')
    lines[lines.length - 1] += (lines.at(-1) === '' ? '' : ' ') + word
  }
  return lines.map(line).join('\n')
}

/** A line that is no request, whatever it begins with. */
function line (words) {
  return words.replace(/^[.']/, '\\&$&')
}

/** Text in which a dash is the one that is typed, and nothing is a request. */
function escape (words) {
  return words.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('…', '\\&...').replaceAll("'", '\\(aq').replaceAll('`', '\\(ga').replaceAll('~', '\\(ti').replaceAll('^', '\\(ha')
}

function main (args) {
  const made = page()
  if (!args.includes('--check')) return fs.writeFileSync(FILE, made)
  if (fs.existsSync(FILE) && fs.readFileSync(FILE, 'utf8') === made) return
  process.stderr.write('man/ats-p2p.1 is not what the tables make: run node tools/man.js\n')
  process.exitCode = 1
}

if (require.main === module) main(process.argv.slice(2))

module.exports = { FILE, page }
