'use strict'

const { anywhere, commands, firstWords, valued } = require('./tables')

/** A script for bash 3.2 and later. */
function bash () {
  const all = commands()
  return `# Completion of ats-p2p for bash, made by: ats-p2p completion bash
# For this user: ats-p2p completion bash > ~/.local/share/bash-completion/completions/ats-p2p

_ats_p2p_files() { _ats_p2p_option -o filenames -o bashdefault -o default; }

_ats_p2p_option() { compopt "$@" 2>/dev/null || true; }

# What others have chosen is compared and quoted, and never expanded.
_ats_p2p_lines() {
  local line
  while IFS= read -r line; do
    [[ $line == "$cur"* ]] && COMPREPLY+=("$(printf %q "$line")")
  done
}

_ats_p2p_words() {
  local word
  for word in "$@"; do [[ $word == "$cur"* ]] && COMPREPLY+=("$word"); done
}

_ats_p2p() {
  local cur=\${COMP_WORDS[COMP_CWORD]} before=\${COMP_WORDS[COMP_CWORD-1]} command= first= at=0 i word
  COMPREPLY=()
  # Bash parts --option=value in three.
  if [[ $cur == = ]]; then cur=; elif [[ $before == = ]]; then before=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $word in
      --) [[ $command ]] && { _ats_p2p_files; return; } ;;
      ${valued().join('|')}) ((i++)); [[ \${COMP_WORDS[i]} == = ]] && ((i++)) ;;
      -*) ;;
      *) if [[ -z $command ]]; then command=$word; else ((at++)); [[ $first ]] || first=$word; fi ;;
    esac
  done

  case "$command:$before" in
${cases(all)}
  esac

  if [[ $cur == -* ]]; then
    case $command in
${all.map(({ name, flags }) => `      ${name}) _ats_p2p_words ${flags.flatMap(({ names }) => names).join(' ')} ;;`).join('\n')}
      '') _ats_p2p_words --help --version ${[...new Set(all.flatMap(({ flags }) => flags.flatMap(({ names }) => names)))].filter(name => name !== '--help').join(' ')} ;;
    esac
    return
  fi

  case $command in
    '') _ats_p2p_words ${all.map(({ name }) => name).join(' ')} help ;;
    help) _ats_p2p_words ${all.map(({ name }) => name).join(' ')} ;;
${all.map(positionals).filter(Boolean).join('\n')}
  esac
}

complete -F _ats_p2p ats-p2p
`
}

/** What the values of options are completed with; those that are alike share a line. */
function cases (all) {
  const alike = new Map()
  // Before the command, those that any has.
  for (const { name, flags } of [...all, { name: '', flags: anywhere(all) }]) {
    for (const { names, completes } of flags.filter(({ value }) => value !== undefined)) {
      const how = action(completes)
      alike.set(how, [...alike.get(how) ?? [], ...names.map(option => `${name}:${option}`)])
    }
  }
  return [...alike].map(([how, patterns]) => `    ${patterns.join('|')}) ${how}return ;;`).join('\n')
}

/** The shell's words for what is completed; none where nothing is. */
function action (completes) {
  if (Array.isArray(completes)) return `_ats_p2p_words ${completes.join(' ')}; `
  return {
    file: '_ats_p2p_files; ',
    folder: '_ats_p2p_option -o filenames -o dirnames; ',
    command: '_ats_p2p_lines < <(compgen -c -- "$cur" | sort -u); ',
    peer: '_ats_p2p_lines < <("${COMP_WORDS[0]}" completion peers 2>/dev/null); '
  }[completes] ?? ''
}

function positionals ({ name, actions, completes }) {
  if (actions.length === 0) return completes ? `    ${name}) ${action(completes)};;` : ''
  const seconds = firstWords(actions).map(([first]) => {
    const of = actions.filter(action => action.first === first)
    const words = of.map(({ second }) => second).filter(Boolean)
    const how = words.length > 0 ? action(words) : action(of[0].completes)
    return how === '' ? '' : `      1:${first}) ${how};;\n`
  })
  return `    ${name}) case "$at:$first" in
      0:*) _ats_p2p_words ${firstWords(actions).map(([first]) => first).join(' ')} ;;
${seconds.join('')}    esac ;;`
}

module.exports = { bash }
