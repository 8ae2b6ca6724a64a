'use strict'

// By which settings a transfer in the background is found again, whatever holds where that is asked. None is a secret.

const { CHANNEL, CONNECTION, nodeOptions } = require('../flags')
const { flagOf } = require('../failure')

// What says which transfer of which service it is, also where it is the default.
const PLACE = ['atsUrl', 'organization', 'project', 'channel', 'actorId']

const FLAGS = { ...CHANNEL, ...CONNECTION }

/** The flags that a node by these flags is made with, as they hold in this folder and environment. */
async function keptFlags (values) {
  const { settings } = require('../..')
  const kept = {}
  for (const { name, value, source } of (await settings(nodeOptions(values))).settings) {
    const flag = flagOf(name).slice(2)
    if (!Object.hasOwn(FLAGS, flag) || value === null || (source === 'default' && !PLACE.includes(name))) continue
    if (value === false && Object.hasOwn(FLAGS, `no-${flag}`)) kept[`no-${flag}`] = true
    else if (value !== false) kept[flag] = Array.isArray(value) ? value.join(',') : value
  }
  return kept
}

/** Flags as they were given, and what is kept of a transfer where they say nothing. */
function withKept (state, values) {
  const kept = Object.entries(state?.settings ?? {}).filter(([flag]) => values[opposite(flag)] === undefined)
  return { ...Object.fromEntries(kept), ...values }
}

/** The command that goes on with a transfer, with the flags that it needs where `here` holds. */
function resumeCommand ({ settings = {} }, here) {
  const needed = Object.entries(settings).filter(([flag, value]) => Object.hasOwn(FLAGS, flag) && here[flag] !== value)
  const words = needed.flatMap(([flag, value]) => value === true ? [`--${flag}`] : [`--${flag}`, inShell(String(value))])
  return ['ats-p2p resume', ...words].join(' ')
}

function opposite (flag) {
  return flag.startsWith('no-') ? flag.slice(3) : `no-${flag}`
}

/** A word as a shell takes it. */
function inShell (word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`
}

module.exports = { keptFlags, resumeCommand, withKept }
