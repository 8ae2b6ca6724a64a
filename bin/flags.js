'use strict'

const { LONGEST_TIMER_MS, MIN_RATE, bytesOf } = require('../lib/checks')

// The options that several commands share, and how they become the library's. Of each option: `value` is what it takes
// (none where it takes nothing), `help` what it does, `short` its letter, `aliases` its other names, `variable` the
// environment variable behind it and `otherwise` what holds without it, `choices` all that it may be, `multiple` whether
// it may be repeated, `completes` what a shell offers for it, `group` under which heading the help has it.

/** Which service, as whom: what every command that asks one takes. */
const SERVICE = grouped('Service and actor', {
  'ats-url': { value: 'URL', short: 'u', aliases: ['url'], help: 'task service', variable: 'ATS_URL', otherwise: 'https://ats.difflab.ai' },
  org: { value: 'NAME', help: 'organization that the tasks belong to', variable: 'ATS_ORG', otherwise: 'default' },
  project: { value: 'NAME', help: 'project that the tasks belong to', variable: 'ATS_PROJECT', otherwise: 'main' },
  'actor-id': { value: 'ID', help: "this node's actor id", variable: 'ATS_ACTOR_ID', otherwise: 'p2p-node' },
  'actor-type': { value: 'TYPE', choices: ['agent', 'human', 'system'], help: 'what kind of actor this node is: agent, human or system', variable: 'ATS_ACTOR_TYPE', otherwise: 'agent' },
  'actor-name': { value: 'NAME', help: 'a name for people to read', variable: 'ATS_ACTOR_NAME', otherwise: 'the actor id' },
  ca: { value: 'FILE', help: 'trust the certificate authorities in this file too', variable: 'ATS_P2P_CA', completes: 'file' },
  insecure: { help: 'send the key over plain HTTP too', variable: 'ATS_P2P_INSECURE=1' }
})

/** Whose records of this home: what commands take that ask no service. */
const SCOPE = pick(SERVICE, ['ats-url', 'org', 'project', 'actor-id'])

const IDENTITY = grouped('Identity', {
  identity: { value: 'PATH', help: 'seed that the identity is derived from', otherwise: 'that of this user', completes: 'file' },
  'no-identity': { help: 'be nobody in particular, and sign nothing' }
})

/** What every command that meets peers takes. */
const CONNECTION = {
  ...SERVICE,
  ...grouped('Network', {
    bootstrap: { value: 'HOST:PORT,…', help: 'nodes of the DHT', variable: 'ATS_P2P_BOOTSTRAP', otherwise: 'what the service names' },
    'relay-through': { value: 'KEY', help: 'relay where no direct way opens: a public key, or none', otherwise: "the hub's" },
    tunnel: { value: 'URL', help: "meet peers at this hub's tunnel where UDP leads nowhere", variable: 'ATS_P2P_TUNNEL', otherwise: "the service's" },
    'no-tunnel': { help: 'meet nobody at a tunnel' }
  }),
  ...IDENTITY
}

/** What every command takes. */
const OUTPUT = grouped('Output', {
  json: { help: 'one JSON object a line instead of text' },
  format: { value: 'FORMAT', short: 'f', choices: ['text', 'json', 'table'], help: 'text or json; table is text too' },
  quiet: { short: 'q', help: 'say nothing but errors and what was asked for; show no progress' },
  verbose: { short: 'v', help: 'say on stderr what happens inside; ATS_P2P_LOG says in what detail' },
  help: { short: 'h', help: 'the options of the command, and examples' }
})

const CHANNEL = { channel: { value: 'NAME', short: 'c', help: 'channel of the task service', variable: 'ATS_P2P_CHANNEL', otherwise: 'p2p-transfer' } }

const TIMEOUT = { timeout: { value: 'MS', help: 'longest wait for the other side, in milliseconds', otherwise: '120000' } }

const VERIFIED = { 'require-verified': { help: 'refuse peers that show no identity' } }

const MAX_SIZE = { 'max-size': { value: 'BYTES', help: 'largest file that is taken', otherwise: 'unlimited' } }

const MAX_RATE = { 'max-rate': { value: 'RATE', help: 'bytes a second that may move at most: 500K, 1.5M, or a number', variable: 'ATS_P2P_MAX_RATE', otherwise: 'unlimited' } }

const MAX_CONCURRENT = { 'max-concurrent': { value: 'N', help: 'files received at once, 1 to 256', otherwise: '16' } }

const PRESERVE = { 'no-preserve': { help: 'neither tell nor keep permissions and times of files' } }

/** The library's options from the flags that were given. */
function nodeOptions (values) {
  return {
    atsUrl: values['ats-url'],
    organization: values.org,
    project: values.project,
    actorId: values['actor-id'],
    actorType: values['actor-type'],
    actorName: values['actor-name'],
    ca: values.ca,
    insecure: values.insecure,
    channel: values.channel,
    bootstrap: values.bootstrap?.split(','),
    relayThrough: values['relay-through'],
    tunnel: values['no-tunnel'] ? false : values.tunnel,
    timeout: number(values.timeout),
    maxFileSize: number(values['max-size']),
    maxRate: values['max-rate'] === undefined ? undefined : bytesOf(values['max-rate']),
    maxConcurrent: number(values['max-concurrent']),
    allowedPeers: values.allow,
    requireVerified: values['require-verified'],
    preserve: values['no-preserve'] ? false : undefined,
    identity: values['no-identity'] ? false : values.identity
  }
}

/** What is wrong with those of these flags that are given and hold numbers, or null. */
function numberProblem (values, flags = ['timeout', 'max-size', 'max-bytes', 'max-concurrent']) {
  if (values['max-rate'] !== undefined && !(bytesOf(values['max-rate']) >= MIN_RATE)) {
    return `--max-rate must be bytes a second, at least ${MIN_RATE}, with K, M or G for 1024, 1024² or 1024³: 500K, 1.5M`
  }
  for (const flag of flags) {
    if (values[flag] !== undefined && !isPositive(values[flag])) return `--${flag} must be a positive whole number`
  }
  return Number(values.timeout ?? 0) > LONGEST_TIMER_MS ? `--timeout must be at most ${LONGEST_TIMER_MS}` : null
}

/** Whether a text is a whole number from 1 on. */
function isPositive (text) {
  return /^[1-9]\d{0,14}$/.test(text)
}

/** What is wrong with the id of a transfer, which `question` asks for, or null. */
function idProblem (id, question) {
  return id === undefined || id.trim() === '' ? question : null
}

function number (text) {
  return text === undefined ? undefined : Number(text)
}

function pick (flags, names) {
  return Object.fromEntries(names.map(name => [name, flags[name]]))
}

function grouped (group, flags) {
  return Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, { ...flag, group }]))
}

module.exports = { CHANNEL, CONNECTION, IDENTITY, MAX_CONCURRENT, MAX_RATE, MAX_SIZE, OUTPUT, PRESERVE, SCOPE, SERVICE, TIMEOUT, VERIFIED, idProblem, isPositive, nodeOptions, number, numberProblem }
