'use strict'

// The options that several commands share, and how they become the library's.

const CONNECTION = {
  'ats-url': { value: 'URL', help: 'task service (ATS_URL; https://ats.difflab.ai)' },
  'actor-id': { value: 'ID', help: "this node's actor id (ATS_ACTOR_ID; p2p-node)" },
  bootstrap: { value: 'HOST:PORT,…', help: 'nodes of the DHT (ATS_P2P_BOOTSTRAP; what the service names)' },
  'relay-through': { value: 'KEY', help: 'relay where no direct way opens: a public key, or none (the hub\'s)' },
  tunnel: { value: 'URL', help: "meet peers at this hub's tunnel where UDP leads nowhere (ATS_P2P_TUNNEL; the service's)" },
  'no-tunnel': { help: 'meet nobody at a tunnel' },
  ca: { value: 'FILE', help: 'trust the certificate authorities in this file too (ATS_P2P_CA)' },
  insecure: { help: 'send the key over plain HTTP too (ATS_P2P_INSECURE=1)' },
  identity: { value: 'PATH', help: 'seed that the identity is derived from (that of this user)' },
  'no-identity': { help: 'be nobody in particular, and sign nothing' }
}

const CHANNEL = { channel: { value: 'NAME', help: 'channel of the task service (ATS_P2P_CHANNEL; p2p-transfer)' } }

const TIMEOUT = { timeout: { value: 'MS', help: 'longest wait for the other side, in milliseconds (120000)' } }

const VERIFIED = { 'require-verified': { help: 'refuse peers that show no identity' } }

const MAX_SIZE = { 'max-size': { value: 'BYTES', help: 'largest file that is taken (unlimited)' } }

const MAX_CONCURRENT = { 'max-concurrent': { value: 'N', help: 'files received at once, 1 to 256 (16)' } }

/** The library's options from the flags that were given. */
function nodeOptions (values) {
  return {
    atsUrl: values['ats-url'],
    actorId: values['actor-id'],
    ca: values.ca,
    insecure: values.insecure,
    channel: values.channel,
    bootstrap: values.bootstrap?.split(','),
    relayThrough: values['relay-through'],
    tunnel: values['no-tunnel'] ? false : values.tunnel,
    timeout: number(values.timeout),
    maxFileSize: number(values['max-size']),
    maxConcurrent: number(values['max-concurrent']),
    allowedPeers: values.allow,
    requireVerified: values['require-verified'],
    identity: values['no-identity'] ? false : values.identity
  }
}

/** What is wrong with the flags that hold numbers, or null. */
function numberProblem (values) {
  for (const flag of ['timeout', 'max-size', 'max-concurrent']) {
    if (values[flag] !== undefined && !/^[1-9]\d{0,14}$/.test(values[flag])) return `--${flag} must be a positive whole number`
  }
  return null
}

function number (text) {
  return text === undefined ? undefined : Number(text)
}

module.exports = { CHANNEL, CONNECTION, MAX_CONCURRENT, MAX_SIZE, TIMEOUT, VERIFIED, nodeOptions, numberProblem }
