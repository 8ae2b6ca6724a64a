'use strict'

// What a shell can be told of the commands, whichever shell it is.

const { NAMES, load } = require('../commands')
const { OUTPUT, SERVICE } = require('../flags')

/** Each command: `{ name, summary, flags, actions, completes, passesOn }`. */
function commands () {
  return NAMES.map((name) => {
    const { summary, flags, actions = {}, completes, passesOn } = load(name)
    return { name, summary, flags: shaped({ ...flags, ...OUTPUT }), actions: words(actions), completes, passesOn }
  })
}

/** The options that may as well stand before the command. */
function common () {
  return shaped({ ...SERVICE, ...OUTPUT })
}

/** The options of all commands, each once: what one completes its value with, it does before any command. */
function anywhere (all) {
  return [...new Map(all.flatMap(({ flags }) => flags).reverse().map(flag => [flag.name, flag])).values()].reverse()
}

/** Options as `{ name, names, value, help, multiple, completes }`; `names` with their dashes, the letter first. */
function shaped (flags) {
  return Object.entries(flags).map(([flag, { value, short, aliases = [], help, multiple = false, choices, completes }]) => ({
    name: flag,
    names: [...(short ? [`-${short}`] : []), ...[flag, ...aliases].map(name => `--${name}`)],
    value,
    help,
    multiple,
    completes: choices ?? completes
  }))
}

// What stands for an argument of an action, and what it is completed with.
const ARGUMENTS = { FILE: 'file', ACTOR: 'peer' }

/** Actions as `{ first, second, help, completes }`: `second` a word of the action, `completes` what its argument is. */
function words (actions) {
  return Object.entries(actions).map(([usage, help]) => {
    const [first, next = ''] = usage.split(' ')
    const second = /^[a-z]+$/.test(next) ? next : undefined
    return { first, second, help, completes: ARGUMENTS[next.replace(/[[\]]/g, '')] }
  })
}

/** The first words of actions, each with what it does. */
function firstWords (actions) {
  return [...new Map(actions.map(({ first, second, help }) => [first, second === undefined ? help : `${first} …`]))]
}

/** The names of all options that take a value, whichever command has them. */
function valued () {
  const all = commands().flatMap(({ flags }) => flags).filter(({ value }) => value !== undefined)
  return [...new Set(all.flatMap(({ names }) => names))]
}

module.exports = { anywhere, commands, common, firstWords, valued }
