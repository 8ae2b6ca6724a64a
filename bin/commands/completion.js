'use strict'

const { nodeOptions } = require('../flags')
const { quoted } = require('../output')

const ACTIONS = {
  bash: () => require('../completion/bash').bash(),
  zsh: () => require('../completion/zsh').zsh(),
  fish: () => require('../completion/fish').fish(),

  async peers () {
    const { peers } = require('../..')
    const known = await peers.list(nodeOptions({}))
    // What could act on a terminal is typed by nobody.
    return known.filter(({ actorId }) => quoted(actorId) === actorId).map(({ actorId }) => `${actorId}\n`).join('')
  }
}

module.exports = {
  summary: 'Print what completes commands and options in bash, zsh or fish',
  answers: true,
  positionals: ['SHELL'],
  actions: {
    bash: 'a script for bash 3.2 and later',
    zsh: 'a script for zsh 5 and later',
    fish: 'a script for fish 3 and later',
    peers: 'the actors that are known, one a line: what these scripts ask for behind --to'
  },
  flags: {},
  examples: [
    ['eval "$(ats-p2p completion bash)"', 'In this shell; in zsh the same with zsh, after compinit'],
    ['ats-p2p completion bash > ~/.local/share/bash-completion/completions/ats-p2p', 'In each bash of this user'],
    ['ats-p2p completion zsh > ~/.zfunc/_ats-p2p', 'In each zsh, with ~/.zfunc in $fpath'],
    ['ats-p2p completion fish > ~/.config/fish/completions/ats-p2p.fish', 'In each fish']
  ],

  check (values, [shell, surplus]) {
    if (shell === undefined) return 'for which shell? bash, zsh or fish'
    if (!Object.hasOwn(ACTIONS, shell)) return `there is no completion for "${shell}": bash, zsh and fish have one`
    return surplus === undefined ? null : `"${surplus}" is one argument too many`
  },

  async run ({ positionals: [shell], output }) {
    output.print(await ACTIONS[shell]())
  }
}
