'use strict'

const { CHANNEL, IDENTITY, SERVICE, nodeOptions } = require('../flags')
const { exitCode } = require('../exit-codes')
const { quoted, table } = require('../output')

module.exports = {
  summary: 'Show who this agent is, who said so, and whether the service agrees',
  answers: true,
  flags: { ...CHANNEL, ...SERVICE, ...IDENTITY },
  details: ['Where an API key is set, the service is asked whose it is. Exit code 10 says that it is not this actor\'s.'],
  examples: [
    ['ats-p2p whoami', 'Who this is in this folder'],
    ['ats-p2p whoami --json | jq -r .actorId', 'The actor id, for a program']
  ],

  async run ({ values, output }) {
    const { whoami } = require('../..')
    const found = await whoami(nodeOptions(values))
    output.say(facts(found), 'whoami', found)
    const { key } = found
    if (key === null || key.accepted === null) return 0
    if (key.accepted && (key.actorId === null || key.actorId === found.actorId)) return 0
    output.problem(key.accepted ? `the key is that of ${quoted(key.actorId)}, not of ${quoted(found.actorId)}: set ATS_ACTOR_ID (--actor-id)` : key.reason)
    return exitCode({ code: 'ATS_P2P_IDENTITY' })
  }
}

function facts ({ actorId, actorType, actorName, organization, project, atsUrl, identity, seed, key, sources }) {
  const said = (value, setting) => value === null ? null : `${value} (${origin(sources[setting])})`
  return table([
    ['Actor', said(actorId, 'actorId')],
    ['Type', said(actorType, 'actorType')],
    ['Name', said(actorName, 'actorName')],
    ['Organization', said(organization, 'organization')],
    ['Project', said(project, 'project')],
    ['Service', said(atsUrl, 'atsUrl')],
    ['Identity', identity ?? 'none'],
    ['Seed', seed],
    ['Key', standing(key, actorId)]
  ])
}

function origin ({ source, from }) {
  return { option: 'as given', default: 'default' }[source] ?? from
}

/** What the service makes of the key. */
function standing (key, actorId) {
  if (key === null) return 'none'
  if (key.accepted === false) return 'not taken'
  if (key.accepted === null) return key.reason === null ? 'set; this service does not say whose it is' : `set; not asked about: ${key.reason}`
  return key.actorId === null ? 'taken' : `that of ${key.actorId}${key.actorId === actorId ? '' : ', another actor'}`
}
