'use strict'

const { commands, common, firstWords, valued } = require('./tables')

/** A script for fish 3 and later. */
function fish () {
  const all = commands()
  return `# Completion of ats-p2p for fish, made by: ats-p2p completion fish
# For this user: ats-p2p completion fish > ~/.config/fish/completions/ats-p2p.fish

# The command on the line and what stands behind it, without options and their values.
function __ats_p2p_words
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word ${valued().join(' ')}
            set skip 1
        else if not string match -q -- '-*' $word
            echo $word
        end
    end
end

# Whether the command is this one, and so many words stand behind it, the last of them this one.
function __ats_p2p_at
    set -l words (__ats_p2p_words)
    test "$words[1]" = $argv[1]; or return 1
    set -q argv[2]; or return 0
    test (count $words) = (math $argv[2] + 1); or return 1
    set -q argv[3]; or return 0
    test "$words[-1]" = $argv[3]
end

function __ats_p2p_peers
    set -l program (commandline -opc)[1]
    $program completion peers 2>/dev/null
end

complete -c ats-p2p -f
complete -c ats-p2p -n 'not count (__ats_p2p_words) >/dev/null' -s V -l version -d 'the version'
${common().map(flag => option("not count (__ats_p2p_words) >/dev/null", flag)).join('\n')}
complete -c ats-p2p -n 'not count (__ats_p2p_words) >/dev/null' -a help -d 'What a command does, and its options'
${all.map(({ name, summary }) => [
    `complete -c ats-p2p -n 'not count (__ats_p2p_words) >/dev/null' -a ${name} -d ${quote(summary)}`,
    `complete -c ats-p2p -n '__ats_p2p_at help 0' -a ${name} -d ${quote(summary)}`
  ].join('\n')).join('\n')}

${all.map(body).join('\n\n')}
`
}

function body ({ name, flags, actions, completes, passesOn }) {
  const at = (words, how) => `complete -c ats-p2p -n '__ats_p2p_at ${name}${words}' ${how}`
  const firsts = firstWords(actions).map(([word, help]) => at(' 0', `-a ${word} -d ${quote(help)}`))
  const seconds = actions.map(({ first, second, help, completes }) => {
    if (second !== undefined) return at(` 1 ${first}`, `-a ${second} -d ${quote(help)}`)
    return completes ? at(` 1 ${first}`, positional(completes)) : ''
  })
  const files = completes ?? (passesOn && 'file')
  return [...firsts, ...seconds, files ? at('', positional(files)) : '', ...flags.map(flag => option(`__ats_p2p_at ${name}`, flag))].filter(Boolean).join('\n')
}

function positional (completes) {
  return completes === 'peer' ? "-a '(__ats_p2p_peers)'" : '-F'
}

function option (condition, { names, value, help, completes }) {
  const spelt = names.map(name => name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`).join(' ')
  const taken = value === undefined ? '' : ` ${action(completes)}`
  return `complete -c ats-p2p -n ${quote(condition)} ${spelt}${taken} -d ${quote(help)}`
}

function action (completes) {
  if (Array.isArray(completes)) return `-x -a ${quote(completes.join(' '))}`
  return {
    file: '-r -F',
    folder: "-x -a '(__fish_complete_directories)'",
    command: "-x -a '(__fish_complete_command)'",
    peer: "-x -a '(__ats_p2p_peers)'"
  }[completes] ?? '-x'
}

function quote (text) {
  return `'${text.replace(/[\\']/g, '\\$&')}'`
}

module.exports = { fish }
