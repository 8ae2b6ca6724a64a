'use strict'

const { number, numberProblem } = require('../flags')
const keys = require('./hub-keys')

// What each action takes of the options; the hub itself, where none is named, takes the others too.
const DATA = ['data', 'database', 'database-file']
const OF_KEYS = ['actor', 'admin', 'expires']
const TAKES = { 'key create': [...DATA, ...OF_KEYS], 'key list': DATA, 'key revoke': DATA, invite: [...DATA, ...OF_KEYS], backup: [...DATA, 'force'] }

const COUNTS = ['request-rate', 'daily-quota', 'relay-pairs', 'relay-rate', 'relay-bytes']

module.exports = {
  summary: 'Run a task service and a private network on this machine',
  // What others have asked of it is answered before it ends.
  saysGoodbye: true,
  goodbyeMs: 2900,
  answers: ([action]) => action !== undefined,
  positionals: ['[ACTION]', '[CALL]', '[ID]'],
  actions: {
    'key create': 'make a key for --actor, which is shown once',
    'key list': 'whose keys there are, and when each was last used',
    'key revoke ID': 'end a key at once',
    invite: 'make an invitation for --actor, which `ats-p2p join` takes elsewhere',
    'backup FILE': 'copy the database, while the hub runs or not; the copy serves as hub.sqlite of a data folder'
  },
  flags: {
    listen: { value: 'HOST:PORT', help: 'where the service listens: an address or a name, a port, or both; :8787 is on all addresses', otherwise: '127.0.0.1:8787' },
    data: { value: 'DIR', help: 'where its database is kept', otherwise: 'hub in ATS_P2P_HOME, ~/.ats-p2p', completes: 'folder' },
    database: { value: 'URL', help: 'the PostgreSQL database of its tasks and keys, without a password', variable: 'ATS_P2P_DATABASE', otherwise: 'a file in DIR' },
    'database-file': { value: 'FILE', help: 'a file that holds that URL, with its password', completes: 'file' },
    'public-url': { value: 'URL', help: 'what others call it, as behind a proxy (the address it listens on)' },
    'allow-host': { value: 'NAME', help: 'another name that it goes by; may be repeated', multiple: true },
    'trust-proxy': { value: 'ADDRESS,…', help: 'proxies whose word on a client\'s address is taken, as 10.0.0.0/8' },
    'request-rate': { value: 'N', help: 'most requests a second of one actor, or of an address without a key (200)' },
    keep: { value: 'TIME', help: 'how long tasks that are over are kept: 90d, 12h, 30m, or forever (90d)' },
    force: { help: 'let backup replace a file' },
    cert: { value: 'FILE', help: 'speak TLS: the certificate, and those between it and its authority, in PEM', completes: 'file' },
    'key-file': { value: 'FILE', help: "the certificate's private key, in PEM", completes: 'file' },
    open: { help: 'let everybody in without a key, not this machine alone' },
    trust: { value: 'NETWORK,…', help: 'let clients of these networks in without a key, as 10.0.0.0/8' },
    insecure: { help: 'take keys over plain HTTP, where others can read them' },
    actor: { group: 'Keys and invitations', value: 'ID', help: 'the one actor that the key speaks for' },
    admin: { group: 'Keys and invitations', help: 'the key sees and changes the tasks of all' },
    expires: { group: 'Keys and invitations', value: 'TIME', help: 'how long the key holds, as 90d or 12h', otherwise: 'for ever' },
    'daily-quota': { value: 'BYTES', help: 'most bytes of one actor, or of an address without a key, that are kept a day (1073741824)' },
    relay: { group: 'Relay and tunnel', value: 'WHOM', help: 'whom the relay serves: tasks, open or off', otherwise: 'tasks', choices: ['tasks', 'open', 'off'] },
    'relay-pairs': { group: 'Relay and tunnel', value: 'N', help: 'most pairs at once, of the relay and of the tunnel (64)' },
    'relay-rate': { group: 'Relay and tunnel', value: 'BYTES', help: 'most bytes a second for a pair of either (33554432)' },
    'relay-bytes': { group: 'Relay and tunnel', value: 'BYTES', help: 'most bytes for a pair of either (274877906944)' },
    tunnel: { group: 'Relay and tunnel', value: 'WHOM', help: 'whom the tunnel joins, for peers without UDP: tasks, keys, open or off', otherwise: 'tasks', choices: ['tasks', 'keys', 'open', 'off'] },
    'tunnel-url': { group: 'Relay and tunnel', value: 'URL', help: 'where this very hub is reached, if others share its name or database' }
  },
  examples: [
    ['ats-p2p hub', 'For the agents of this machine'],
    ['ats-p2p hub --listen :8787 --cert cert.pem --key-file key.pem', 'For those of other machines too, each with a key'],
    ['ats-p2p hub invite --actor agent-b', 'A key for agent-b, who takes it by ats-p2p join']
  ],

  check (values, positionals) {
    const [action, file, surplus] = positionals
    if (showsPassword(values.database)) return '--database has a password in it, which others see in the list of processes: put the URL into ATS_P2P_DATABASE, or into a file for --database-file'
    if (values.database !== undefined && values['database-file'] !== undefined) return '--database and --database-file are too much: one of them says where the database is'
    const unwanted = unwantedFlag(values, action === 'key' ? `key ${file}` : action)
    if (unwanted) return unwanted
    if (action === 'key' || action === 'invite') return keys.problem(values, positionals)
    if (action !== undefined && action !== 'backup') return `there is nothing called "${action}" to do with a hub`
    if (action === 'backup' && file === undefined) return 'backup: to which file?'
    if (surplus !== undefined) return `"${surplus}" is one argument too many`
    const wrongCount = numberProblem(values, COUNTS)
    if (wrongCount) return wrongCount
    if (values.keep !== undefined && retention(values.keep) === null) return '--keep must be a time such as 90d, 12h or 30m, or forever'
    return (values.cert === undefined) === (values['key-file'] === undefined) ? null : '--cert and --key-file go together'
  },

  async run ({ values, positionals, output, interrupts }) {
    const [action, file] = positionals
    const { startHub, backupHub } = require('../..')
    if (action === 'backup') {
      await interrupts.race(backupHub(file, { ...keys.place(values), replace: values.force }))
      output.say(`The database is copied to ${file}`, 'backup', { file })
      return
    }
    if (action !== undefined) return interrupts.race(keys.run(values, positionals, output))
    const hub = await interrupts.race(startHub({
      listen: values.listen,
      ...keys.place(values),
      publicUrl: values['public-url'],
      allowedHosts: values['allow-host'],
      trustedProxies: values['trust-proxy']?.split(','),
      requestRate: number(values['request-rate']),
      open: values.open,
      trust: values.trust?.split(','),
      insecure: values.insecure,
      cert: values.cert,
      keyFile: values['key-file'],
      keep: values.keep === undefined ? undefined : retention(values.keep),
      dailyQuota: number(values['daily-quota']),
      relay: values.relay,
      relayPairs: number(values['relay-pairs']),
      relayRate: number(values['relay-rate']),
      relayBytes: number(values['relay-bytes']),
      tunnel: values.tunnel,
      tunnelUrl: values['tunnel-url']
    }))
    try {
      const others = hub.urls.length > 1 ? ` (also ${hub.urls.slice(1).join(', ')})` : ''
      const behind = values['public-url'] === undefined ? '' : `, listening on ${hub.address}`
      output.say(
        `Hub at ${hub.url}${others}${behind}, DHT at ${hub.bootstrap.join(', ')}\nIn each terminal of yours: export ATS_URL=${hub.url}`,
        'listening',
        { url: hub.url, urls: hub.urls, address: hub.address, bootstrap: hub.bootstrap }
      )
      if (isShut(hub.url, values)) {
        output.problem('other machines need a key, and keys are not taken over plain HTTP: give it a certificate (--cert), let a proxy speak TLS (--trust-proxy), or let others in without keys (--open, --trust)')
      }
      await interrupts.wait()
    } finally {
      await hub.close()
    }
  }
}

/** What is wrong with a flag that says nothing to this action, or to the hub itself; null if all do. */
function unwantedFlag (values, action) {
  const takes = action === undefined ? flag => !OF_KEYS.includes(flag) && flag !== 'force' : flag => TAKES[action]?.includes(flag) ?? true
  const flag = Object.keys(module.exports.flags).find(name => values[name] !== undefined && !takes(name))
  if (flag === undefined) return null
  const owners = Object.keys(TAKES).filter(name => !DATA.includes(flag) && TAKES[name].includes(flag)).map(name => `hub ${name}`)
  return `--${flag} does not go with hub${action === undefined ? '' : ` ${action}`}; it is an option of ${owners.length > 0 ? owners.join(', ') : 'hub alone'}`
}

/** Whether a hub that listens for other machines lets none of them in. */
function isShut (url, values) {
  const { protocol, hostname } = new URL(url)
  const isHere = hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.')
  return !isHere && protocol === 'http:' && !['open', 'trust', 'insecure', 'trust-proxy'].some(flag => values[flag])
}

/** Whether the URL of a database has a password in it. */
function showsPassword (text) {
  if (text === undefined || !URL.canParse(text)) return false
  const url = new URL(text)
  return url.password !== '' || url.searchParams.has('password')
}

/** How long what is over is kept, milliseconds; null for what is no time. */
function retention (text) {
  return text === 'forever' ? Infinity : keys.lifetime(text)
}
