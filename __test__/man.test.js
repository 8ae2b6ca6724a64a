'use strict'

// The manual page: what the tables of the command line make, and what programs that show it accept.

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { NAMES, load } = require('../bin/commands')
const { FILE, page } = require('../tools/man')
const { man } = require('../package.json')

/** Whether a program is installed; else why its test is skipped. */
function missing (program) {
  return spawnSync(program, ['--version']).error ? `${program} is not installed` : false
}

test('the manual page is the one that the tables make', () => {
  assert.equal(path.resolve(__dirname, '..', man), FILE)
  assert.equal(fs.readFileSync(FILE, 'utf8'), page(), 'run node tools/man.js')
})

test('groff has nothing to say of the manual page, and shows each option as it is typed', { skip: missing('groff') }, () => {
  const { status, stdout, stderr } = spawnSync('groff', ['-man', '-ww', '-Tutf8', '-P-c', FILE], { encoding: 'utf8' })
  assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
  const shown = stdout.replace(/.\x08/g, '')
  for (const flag of NAMES.flatMap(name => Object.keys(load(name).flags))) assert.match(shown, new RegExp(`--${flag}\\b`))
  assert.match(shown, /ats-p2p send \.\/data\.csv --to agent-b$/m)
})

test('mandoc warns of nothing in the manual page but that it has no date', { skip: missing('mandoc') }, () => {
  const { stdout, stderr } = spawnSync('mandoc', ['-Tlint', FILE], { encoding: 'utf8' })
  assert.deepEqual(`${stdout}${stderr}`.split('\n').filter(line => line !== '' && !/missing date/.test(line)), [])
})
