'use strict'

// What does no harm by itself, and should be known once: it changes no exit code.

const { quoted } = require('./output')

const DEFAULT_ACTOR = 'ATS_P2P_DEFAULT_ACTOR'

/** Warns whoever sends or listens as everybody does who has not said who it is. */
async function warnOfDefaultActor (options, output) {
  const { settings } = require('..')
  const { value, source } = (await settings(options)).settings.find(({ name }) => name === 'actorId')
  if (source !== 'default') return
  output.warning(DEFAULT_ACTOR, `this node goes by ${quoted(value)}, as everybody does who has not said otherwise: name it with --actor-id, ATS_ACTOR_ID or actor.id in ~/.ats/config`)
}

module.exports = { warnOfDefaultActor }
