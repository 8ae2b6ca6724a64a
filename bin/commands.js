'use strict'

// The commands, in the order in which the help has them, under the headings that it has for them.

const COMMANDS = {
  Files: {
    send: () => require('./commands/send'),
    listen: () => require('./commands/listen'),
    wait: () => require('./commands/wait'),
    status: () => require('./commands/status'),
    resume: () => require('./commands/resume'),
    cancel: () => require('./commands/cancel'),
    verify: () => require('./commands/verify')
  },
  'This agent': {
    whoami: () => require('./commands/whoami'),
    config: () => require('./commands/config'),
    id: () => require('./commands/id'),
    peers: () => require('./commands/peers'),
    join: () => require('./commands/join')
  },
  'Service and network': {
    health: () => require('./commands/health'),
    doctor: () => require('./commands/doctor'),
    hub: () => require('./commands/hub'),
    dht: () => require('./commands/dht'),
    demo: () => require('./commands/demo')
  },
  'This command': {
    completion: () => require('./commands/completion')
  }
}

const LOADERS = Object.assign({}, ...Object.values(COMMANDS))

/** The names of all commands. */
const NAMES = Object.keys(LOADERS)

/** A command by its name; null if there is none. */
function load (name) {
  return Object.hasOwn(LOADERS, name) ? LOADERS[name]() : null
}

/** Each heading with the names below it. */
function headings () {
  return Object.entries(COMMANDS).map(([heading, commands]) => [heading, Object.keys(commands)])
}

module.exports = { NAMES, headings, load }
