'use strict'

const { commands, common, firstWords } = require('./tables')

/** A script for zsh 5 and later. */
function zsh () {
  const all = commands()
  return `#compdef ats-p2p
# Completion of ats-p2p for zsh, made by: ats-p2p completion zsh
# For this user, with a folder of $fpath: ats-p2p completion zsh > ~/.zfunc/_ats-p2p

_ats_p2p_peers() {
  local -a peers
  peers=("\${(@f)$(\${(Q)_ats_p2p_program} completion peers 2>/dev/null)}")
  compadd -a peers
}

_ats_p2p_commands() {
  local -a commands
  commands=(
${all.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`).join('\n')}
    'help:What a command does, and its options'
  )
  _describe -t commands command commands
}

_ats_p2p() {
  local curcontext="$curcontext" state state_descr line _ats_p2p_program=$words[1]
  typeset -A opt_args

  _arguments -C \\
    ${[...common().map(spec), "'(- *)'{-V,--version}'[the version]'", "'1: :_ats_p2p_commands'", "'*:: :->rest'"].join(' \\\n    ')} && return

  [[ $state == rest ]] || return 1
  case $line[1] in
    help) _arguments '1: :_ats_p2p_commands' ;;
${all.map(body).join('\n')}
  esac
}

# Sourced, it says what it completes; from $fpath it is the function itself.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _ats_p2p "$@"; else compdef _ats_p2p ats-p2p; fi
`
}

function body ({ name, flags, actions, completes, passesOn }) {
  const specs = [...flags.map(spec), ...positionals(actions, completes)]
  if (passesOn) specs.push("'*:argument:_files'")
  return `    ${name})\n      _arguments -S \\\n        ${specs.join(' \\\n        ')}\n      ;;`
}

function spec ({ names, value, help, multiple, completes }) {
  const shut = multiple || names.length === 1 ? '' : quote(`(${names.join(' ')})`)
  const repeated = multiple ? "'*'" : ''
  const spelt = value === undefined ? names : names.map(name => name.startsWith('--') ? `${name}=` : `${name}+`)
  const which = spelt.length === 1 ? spelt[0] : `{${spelt.join(',')}}`
  const taken = value === undefined ? '' : `:${escape(value)}:${action(completes)}`
  return `${shut}${repeated}${which}${quote(`[${escape(help)}]${taken}`)}`
}

function action (completes) {
  if (Array.isArray(completes)) return `(${completes.join(' ')})`
  return { file: '_files', folder: '_files -/', command: '_command_names -e', peer: '_ats_p2p_peers' }[completes] ?? ' '
}

function positionals (actions, completes) {
  if (actions.length === 0) return completes ? [quote(`*: :${action(completes)}`)] : []
  const firsts = firstWords(actions)
  const seconds = firsts.map(([first]) => {
    const of = actions.filter(action => action.first === first)
    const words = of.map(({ second }) => second).filter(Boolean)
    const how = words.length > 0 ? `compadd ${words.join(' ')}` : action(of[0].completes)
    return how === ' ' ? '' : `${first}) ${how} ;; `
  })
  return [
    quote(`1:action:((${firsts.map(([word, help]) => `${word}\\:"${escape(help).replace(/["`$]/g, '\\$&')}"`).join(' ')}))`),
    ...(seconds.some(Boolean) ? [quote(`2:argument:{ case $line[1] in ${seconds.join('')}esac }`)] : [])
  ]
}

/** Text within a specification, where brackets and colons mean something. */
function escape (text) {
  return text.replace(/[[\]:\\]/g, '\\$&')
}

function quote (text) {
  return `'${text.replaceAll("'", "'\\''")}'`
}

module.exports = { zsh }
