'use strict'

const { SCOPE, nodeOptions } = require('../flags')
const { quoted } = require('../output')

module.exports = {
  summary: 'Show which agents are known, and by what; accept or forget one',
  answers: true,
  positionals: ['[ACTION]', '[ACTOR]', '[IDENTITY]'],
  actions: {
    list: 'the actors that were met, and their identities (if no action is named)',
    'accept ACTOR [IDENTITY]': 'accept another identity of an actor, by default the one that was refused',
    'forget ACTOR': 'take the next identity of an actor on faith'
  },
  flags: SCOPE,
  examples: [
    ['ats-p2p peers', 'Whom this agent knows'],
    ['ats-p2p peers accept agent-b', 'agent-b by the identity that was refused, after asking who runs it']
  ],

  check (values, [action = 'list', actor, identity, surplus]) {
    if (!Object.hasOwn(ACTIONS, action)) return `there is nothing called "${action}" to do with peers`
    if (action !== 'list' && actor === undefined) return 'which actor?'
    if (action === 'accept' && identity !== undefined && !/^[0-9a-fA-F]{64}$/.test(identity)) {
      return 'an identity has 64 hex digits; `ats-p2p id` shows it where that actor runs'
    }
    const unwanted = { list: actor, accept: surplus, forget: identity }[action]
    return unwanted === undefined ? null : `"${unwanted}" is one argument too many`
  },

  async run ({ values, positionals: [action = 'list', actor, identity], output }) {
    const { peers } = require('../..')
    await ACTIONS[action](peers, { options: nodeOptions(values), actor, identity, output })
  }
}

const ACTIONS = {
  async list (peers, { options, output }) {
    const known = await peers.list(options)
    for (const peer of known) output.say(describe(peer), 'peer', peer)
    if (known.length === 0 && !output.json) output.say('No peer is known yet: the first verified transfer with one makes it known.')
  },

  async accept (peers, { options, actor, identity, output }) {
    const peer = await peers.accept(actor, identity, options)
    output.say(`${quoted(actor)} is known by ${peer.identity} from now on, and by no other identity`, 'accepted', peer)
  },

  async forget (peers, { options, actor, output }) {
    const peer = await peers.forget(actor, options)
    const said = peer ? `${quoted(actor)} is forgotten, and its next identity taken on faith` : `${quoted(actor)} was not known`
    output.say(said, 'forgotten', { actorId: actor, known: peer !== null })
  }
}

function describe ({ actorId, identity, firstSeen, lastSeen, accepted, refused, former }) {
  const how = accepted ? 'accepted' : 'on faith'
  const line = `${quoted(actorId)}\n  ${identity}, ${how} since ${firstSeen}, last seen ${lastSeen}`
  const others = [
    ...former.map(({ identity, at }) => `  ${identity} before, until it handed over at ${at}`),
    ...refused.map(({ identity, at }) => `  ${identity} was refused, first at ${at}`)
  ]
  return [line, ...others].join('\n')
}
