'use strict'

// Completion in the shells themselves, where they are installed.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { peers } = require('..')
const { NAMES, load } = require('../bin/commands')
const { OUTPUT } = require('../bin/flags')
const { cli, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const PROGRAM = path.join(__dirname, '..', 'bin', 'ats-p2p.js')
// An actor's id is what somebody else has chosen.
const STRANGE = '$(touch pwned)`touch pwned`;\'"'

/** What each shell offers for each of some lines. */
const SHELLS = {
  bash: (script, lines, options) => {
    const asks = lines.map((line) => {
      const words = line.split(' ').map(word => `'${word}'`).join(' ')
      return `COMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _ats_p2p; printf '%s\\n' "\${COMPREPLY[@]}" NEXT`
    })
    return parts(run('bash', ['--norc', '--noprofile', '-c', [`source '${script}'`, ...asks].join('; ')], options))
  },

  zsh: (script, lines, options) => {
    const found = parts(run('zsh', ['-f', path.join(__dirname, 'fixtures', 'complete.zsh'), script, ...lines], options))
    return found.map(out => out.filter(line => line.startsWith('HIT:')).map(line => line.slice(4)))
  },

  fish: (script, lines, options) => {
    const asks = lines.map(line => `complete -C '${line}'; echo NEXT`)
    return parts(run('fish', ['--no-config', '-c', [`source '${script}'`, ...asks].join('; ')], options)).map(hits => hits.map(hit => hit.split('\t')[0]))
  }
}

function parts (out) {
  const found = [[]]
  for (const line of out.replaceAll('\r', '').split('\n')) {
    if (line === 'NEXT') found.push([])
    else if (line !== '') found.at(-1).push(line)
  }
  return found.slice(0, -1)
}

function run (command, args, options) {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8', timeout: 30_000, ...options })
  assert.ok(status === 0 || stdout !== '', `${command}: ${stderr}`)
  return stdout
}

/** A folder that has the command, the script for a shell, and a file; `offered(lines)` asks the shell there. */
async function place (t, shell) {
  const folder = tempFolder(t)
  const home = path.join(folder, 'home')
  fs.writeFileSync(path.join(folder, 'ats-p2p'), `#!/bin/sh\nexec "${process.execPath}" "${PROGRAM}" "$@"\n`, { mode: 0o755 })
  const script = path.join(folder, 'script')
  const made = await cli(t, ['completion', shell]).ended
  assert.equal(made.code, 0, made.stderr)
  fs.writeFileSync(script, `${made.stdout}\n`)
  fs.mkdirSync(path.join(folder, 'work', 'a folder'), { recursive: true })
  fs.writeFileSync(path.join(folder, 'work', 'some-file'), '')
  const env = { ...process.env, PATH: `${folder}:${process.env.PATH}`, HOME: home, ATS_P2P_HOME: home, TERM: 'dumb' }
  for (const name of Object.keys(env)) if (name.startsWith('ATS_') && name !== 'ATS_P2P_HOME') delete env[name]
  const options = { cwd: path.join(folder, 'work'), env }
  const offered = lines => SHELLS[shell](script, lines, options).map(hits => [...new Set(hits)].sort())
  return { home, folder, offered }
}

for (const shell of Object.keys(SHELLS)) {
  const isThere = spawnSync(shell, ['--version']).status === 0

  test(`${shell} completes commands, options, their values, known actors and files`, { ...LIMIT, skip: !isThere && `${shell} is not installed` }, async (t) => {
    const { home, folder, offered } = await place(t, shell)
    for (const actorId of ['agent-b', STRANGE]) await peers.accept(actorId, 'ab'.repeat(32), { home })
    const wanted = {
      'ats-p2p ': [...NAMES, 'help'],
      'ats-p2p stat': ['status'],
      'ats-p2p -u send stat': ['status'],
      'ats-p2p help lis': ['listen'],
      'ats-p2p send --format ': ['json', 'table', 'text'],
      'ats-p2p hub key ': ['create', 'list', 'revoke'],
      'ats-p2p hub --tunnel ': ['keys', 'off', 'open', 'tasks'],
      'ats-p2p send x --to ag': ['agent-b'],
      'ats-p2p status some': [],
      // bash leaves files to itself.
      'ats-p2p send some': shell === 'bash' ? [] : ['some-file'],
      'ats-p2p id import some': shell === 'bash' ? [] : ['some-file']
    }
    const lines = Object.keys(wanted)
    const found = offered([...lines, 'ats-p2p send --', 'ats-p2p send x -t '])
    assert.deepEqual(Object.fromEntries(lines.map((line, at) => [line, found[at]])), Object.fromEntries(lines.map(line => [line, wanted[line].sort()])))
    const [options, actors] = found.slice(lines.length)
    for (const name of Object.keys({ ...load('send').flags, ...OUTPUT })) assert.ok(options.includes(`--${name}`), `--${name} among ${options}`)
    assert.equal(actors.length, 2, String(actors))
    assert.ok(actors.includes('agent-b'), JSON.stringify(actors))
    assert.deepEqual(fs.readdirSync(path.join(folder, 'work')), ['a folder', 'some-file'], 'nothing was run')
  })
}

test('before the command an option of any command has its value completed, as in bash', LIMIT, () => {
  const script = require('../bin/completion/bash').bash()
  for (const name of NAMES) {
    for (const [flag, { value }] of Object.entries(load(name).flags)) {
      if (value !== undefined) assert.match(script, new RegExp(`[ |]:--${flag}[|)]`))
    }
  }
})

test('each option of each command is in each script', LIMIT, () => {
  const scripts = ['bash', 'zsh', 'fish'].map(shell => require(`../bin/completion/${shell}`)[shell]())
  for (const name of NAMES) {
    for (const [flag, { short, aliases = [] }] of Object.entries({ ...load(name).flags, ...OUTPUT })) {
      for (const one of [flag, ...aliases]) {
        assert.match(scripts[0], new RegExp(`--${one}\\b`))
        assert.match(scripts[1], new RegExp(`--${one}\\b`))
        assert.match(scripts[2], new RegExp(`__ats_p2p_at ${name}' .*-l ${one} `))
      }
      if (short) assert.match(scripts[2], new RegExp(`__ats_p2p_at ${name}' -s ${short} `))
    }
  }
})

test('completion says which shells there are', LIMIT, async (t) => {
  for (const [args, message] of [[[], /for which shell\?/], [['csh'], /no completion for "csh"/], [['bash', 'x'], /"x" is one argument too many/]]) {
    const { code, stderr } = await cli(t, ['completion', ...args]).ended
    assert.equal(code, 2)
    assert.match(stderr, message)
  }
})
