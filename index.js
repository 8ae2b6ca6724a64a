'use strict'

// The public API. Everything that takes time happens in the native addon; `lib/` checks arguments, and gives errors
// their class and events their functions.

const addon = require('./addon')
const { call } = require('./lib/calls')
const { boolean, count, publicKey, text, url, localPath } = require('./lib/checks')
const { leaveAtExit } = require('./lib/environment')
const { AtsP2pError, invalid, wrap } = require('./lib/error')
const { Node } = require('./lib/node')
const {
  CALL_OPTIONS, DHT_OPTIONS, GRANT_OPTIONS, HUB_DATA_OPTIONS, HUB_OPTIONS, JOIN_OPTIONS, NODE_OPTIONS, VERIFY_OPTIONS,
  checkNodeOptions, checkOptions
} = require('./lib/options')
const { DhtNode, Hub, Waiting } = require('./lib/running')
const { version } = require('./package.json')

// The calls whose results hold the warnings of the settings.
const TELLS_WARNINGS = new Set(['settings', 'doctor'])

async function createNode (options) {
  const { resume, ...checked } = checkOptions('createNode', options, NODE_OPTIONS)
  const node = new Node(checked)
  // What fails is told by `transfer_failed`.
  if (resume) node.resumeOffers().catch(() => {})
  return node
}

async function startHub (options) {
  return wrapped(async (checked) => {
    leaveAtExit()
    return new Hub(await addon.NativeHub.start(checked))
  }, checkOptions('startHub', options, HUB_OPTIONS))
}

/** Copies a hub's database to a file, while the hub runs or not. */
async function backupHub (file, options) {
  await wrapped(checked => addon.backupHub(localPath(file, 'backupHub: the file'), checked),
    checkOptions('backupHub', options, { ...HUB_DATA_OPTIONS, replace: boolean }))
}

async function startDht (options) {
  const { signal, ...checked } = checkOptions('startDht', options, DHT_OPTIONS)
  return call(async (cancel) => {
    leaveAtExit()
    return new DhtNode(await addon.NativeDht.start(checked, cancel))
  }, signal)
}

/** Looks at all that transfers need; resolves with what was found, also where much is wrong. */
async function doctor (options) {
  return asked('doctor', options, { peer: publicKey }, (checked, cancel) => addon.diagnose(checked, cancel))
}

async function waitForDoctor (options) {
  return asked('waitForDoctor', options, {}, async (checked, cancel) => {
    leaveAtExit()
    return new Waiting(await addon.NativeWaiting.start(checked, cancel))
  })
}

/** What a node with these options would use, and who said so. */
async function settings (options) {
  return told('settings', options, {}, checked => addon.showSettings(checked))
}

/** How the task service is, and what it offers. */
async function health (options) {
  return asked('health', options, {}, (checked, cancel) => addon.askHealth(checked, cancel))
}

/** Who a node with these options is: here, to its peers, and to a task service that has a key of it. */
async function whoami (options) {
  return asked('whoami', options, {}, async (checked, cancel) => {
    const { settings } = await addon.showSettings(checked)
    const of = name => settings.find(setting => setting.name === name)
    const { identity, seed } = await addon.showIdentity(checked)
    const key = of('apiKey').value === null ? null : await addon.askAccount(checked, cancel).catch((error) => {
      if (error.code === 'ATS_P2P_ABORTED') throw error
      return { accepted: null, actorId: null, reason: error.message, code: error.code }
    })
    const named = ['actorId', 'actorType', 'actorName', 'organization', 'project', 'atsUrl'].map(of)
    return {
      ...Object.fromEntries(named.map(({ name, value }) => [name, value])),
      identity,
      seed,
      key,
      sources: Object.fromEntries(named.map(({ name, source, from }) => [name, { source, from }]))
    }
  })
}

/** Who this user's nodes are to others. */
const identity = {
  show: options => told('identity.show', options, {}, checked => addon.showIdentity(checked)),

  export: options => told('identity.export', options, {}, checked => addon.exportSeed(checked)),

  import: (seed, options) => told('identity.import', options, { replace: boolean }, ({ replace = false, ...checked }) =>
    addon.importSeed(checked, text(seed, 'identity.import: the seed'), replace)),

  create: options => told('identity.create', options, { replace: boolean }, ({ replace = false, ...checked }) =>
    addon.createSeed(checked, replace)),

  rotate: options => told('identity.rotate', options, {}, checked => addon.rotateSeed(checked))
}

/** Whom this user's nodes know. */
const peers = {
  list: options => told('peers.list', options, {}, checked => addon.listPeers(checked)),

  accept: (actorId, identity, options) => told('peers.accept', options, {}, checked =>
    addon.acceptPeer(checked, text(actorId, 'peers.accept: the actor id'), identity == null ? null : publicKey(identity, 'peers.accept: the identity'))),

  forget: (actorId, options) => told('peers.forget', options, {}, checked =>
    addon.forgetPeer(checked, text(actorId, 'peers.forget: the actor id')))
}

/** Who may use a hub of this machine from elsewhere. */
const hubKeys = {
  create: (actorId, options) => ofHub('hubKeys.create', options, GRANT_OPTIONS, checked =>
    addon.createHubKey(checked, text(actorId, 'hubKeys.create: the actor id'))),

  list: options => ofHub('hubKeys.list', options, {}, checked => addon.listHubKeys(checked)),

  revoke: (id, options) => ofHub('hubKeys.revoke', options, {}, checked =>
    addon.revokeHubKey(checked, count(id, 'hubKeys.revoke: the id'))),

  invite: (actorId, options) => ofHub('hubKeys.invite', options, GRANT_OPTIONS, checked =>
    addon.inviteToHub(checked, text(actorId, 'hubKeys.invite: the actor id')))
}

/** Takes a hub's invitation, and keeps the key that it gives in the settings of this user. */
async function join (hubUrl, invitation, options) {
  const { signal, ...checked } = checkOptions('join', options, JOIN_OPTIONS)
  const [at, given] = [url(hubUrl, 'join: the URL'), text(invitation, 'join: the invitation').trim()]
  return call(cancel => addon.joinHub(at, given, checked, cancel), signal)
}

/** What the addon tells of a hub's keys. */
async function ofHub (call, options, table, ask) {
  return wrapped(ask, checkOptions(call, options, { ...HUB_DATA_OPTIONS, ...table }))
}

/** Checks what both ends of a transfer signed, and a file against it. */
async function verify (options) {
  return asked('verify', options, VERIFY_OPTIONS, (checked, cancel) => {
    if ((checked.id === undefined) === (checked.receipt === undefined)) {
      throw invalid('verify: the id of a transfer or a task, or the path of a receipt is needed')
    }
    return addon.verify(checked, cancel)
  })
}

/** What the addon finds out with a node's options, and more of `table`, until a signal among these ends that. */
async function asked (name, options, table, ask) {
  const { signal, ...checked } = checkNodeOptions(name, options, { ...table, ...CALL_OPTIONS })
  await warnOfSettings(name, checked)
  return call(cancel => ask(checked, cancel), signal)
}

/** What the addon tells to a node's options, and more of `table`. */
async function told (call, options, table, ask) {
  const checked = checkNodeOptions(call, options, table)
  await warnOfSettings(call, checked)
  return wrapped(ask, checked)
}

/** Warns of settings that are passed over, as a node does. */
async function warnOfSettings (call, checked) {
  if (TELLS_WARNINGS.has(call)) return
  try {
    const { warnings } = await addon.showSettings(checked)
    for (const warning of warnings) process.emitWarning(warning, 'AtsP2pWarning')
  } catch {
    // What is wrong with the options, the call itself says.
  }
}

/** What the addon comes to with `checked`, its errors with their class and stack. */
async function wrapped (ask, checked) {
  try {
    return await ask(checked)
  } catch (error) {
    throw wrap(error)
  }
}

module.exports = { createNode, startHub, backupHub, startDht, doctor, waitForDoctor, settings, health, whoami, identity, peers, hubKeys, join, verify, AtsP2pError, version }
