'use strict'

// What `ats-p2p hub key` and `ats-p2p hub invite` do.

const { isPositive } = require('../flags')
const { quoted } = require('../output')

const UNITS = { m: 60_000, h: 3_600_000, d: 86_400_000 }

const ACTIONS = {
  async create (hubKeys, { values, output }) {
    const made = await hubKeys.create(values.actor, options(values))
    output.say(`Key ${made.id} of ${quoted(made.actorId)}, shown this once:\n${made.key}`, 'key', made)
  },

  async list (hubKeys, { values, output }) {
    const keys = await hubKeys.list(options(values))
    for (const key of keys) output.say(describe(key), 'key', key)
    if (keys.length === 0 && !output.json) output.say('There is no key yet.')
  },

  async revoke (hubKeys, { values, id, output }) {
    const key = await hubKeys.revoke(Number(id), options(values))
    if (key === null) throw Object.assign(new Error(`there is no key ${id}; ats-p2p hub key list shows which there are`), { code: 'ATS_P2P_INVALID_ARGUMENT' })
    output.say(`Key ${key.id} of ${quoted(key.actorId)} opens nothing any more`, 'revoked', key)
  },

  async invite (hubKeys, { values, output }) {
    const made = await hubKeys.invite(values.actor, options(values))
    const url = made.url ?? 'URL'
    output.say(
      `Invitation for ${quoted(made.actorId)}, good once until ${made.expiresAt}:\n${made.invitation}\n` +
      `On the other machine, which asks for it: npx ats-p2p join ${url}`, 'invitation', made)
  }
}

/** What is wrong with the arguments of `key` or `invite`, or null. */
function problem (values, [action, ...rest]) {
  const name = action === 'invite' ? action : rest.shift()
  if (!['create', 'list', 'revoke', action === 'invite' && 'invite'].includes(name)) return 'which is it: key create, key list or key revoke?'
  const id = name === 'revoke' ? rest.shift() : undefined
  if (rest.length > 0) return `"${rest[0]}" is one argument too many`
  if (name === 'revoke' && !isPositive(id ?? '')) return 'which key? ats-p2p hub key list shows their numbers'
  if ((name === 'create' || name === 'invite') && !values.actor) return 'for which actor? --actor says'
  if (values.expires !== undefined && lifetime(values.expires) === null) return '--expires must be a time such as 90d, 12h or 30m'
  return null
}

function run (values, [action, name, id], output) {
  const { hubKeys } = require('../..')
  return ACTIONS[action === 'invite' ? 'invite' : name](hubKeys, { values, id, output })
}

/** Where the hub's data is, as the options of the API. */
function place ({ data, database, 'database-file': databaseFile }) {
  return { data, database, databaseFile }
}

function options ({ admin, expires, ...values }) {
  return { ...place(values), admin, expiresIn: expires === undefined ? undefined : lifetime(expires) }
}

/** Milliseconds; null for what is no time. */
function lifetime (text) {
  const [, amount, unit] = /^([1-9]\d{0,4})([mhd])$/.exec(text) ?? []
  return amount === undefined ? null : Number(amount) * UNITS[unit]
}

function describe ({ id, actorId, admin, createdAt, expiresAt, revokedAt, lastUsed }) {
  const facts = [
    admin ? 'admin' : null,
    `made ${createdAt}`,
    lastUsed ? `last used ${lastUsed}` : 'never used',
    expiresAt ? `until ${expiresAt}` : null,
    revokedAt ? `revoked ${revokedAt}` : null
  ]
  return `${id}  ${quoted(actorId)}: ${facts.filter(Boolean).join(', ')}`
}

module.exports = { problem, run, lifetime, place }
