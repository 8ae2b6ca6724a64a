'use strict'

// What does no harm by itself, and should be known once: it changes no exit code.

const { quoted } = require('./output')

const DEFAULT_ACTOR = 'ATS_P2P_DEFAULT_ACTOR'

/** Warns whoever sends or listens as everybody does who has not said who it is. */
async function warnOfDefaultActor (options, output) {
  warnOfActor(await found(options), output)
}

/** Warns of that, and of all else that a node would warn of which runs where nobody sees it. */
async function warnOfSettings (options, output) {
  const all = await found(options)
  for (const warning of all.warnings) output.warning(undefined, warning)
  warnOfActor(all, output)
}

function found (options) {
  const { settings } = require('..')
  return settings(options)
}

function warnOfActor ({ settings }, output) {
  const { value, source } = settings.find(({ name }) => name === 'actorId')
  if (source !== 'default') return
  output.warning(DEFAULT_ACTOR, `this node goes by ${quoted(value)}, as everybody does who has not said otherwise: name it with --actor-id, ATS_ACTOR_ID or actor.id in ~/.ats/config`)
}

module.exports = { warnOfDefaultActor, warnOfSettings }
