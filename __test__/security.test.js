'use strict'

// docs/security.md names the tests that hold each of its promises: they have to exist.

const test = require('node:test')
const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')

const ROOT = path.join(__dirname, '..')
const FOLDERS = ['src', 'tests', 'crates', '__test__']

test('every test that docs/security.md names exists', () => {
  const names = new Set(FOLDERS.flatMap(folder => testsIn(path.join(ROOT, folder))))
  const { rows, named } = table(fs.readFileSync(path.join(ROOT, 'docs', 'security.md'), 'utf8'))
  assert.ok(rows > 20, `${rows} rows`)
  assert.deepEqual(named.filter(name => !names.has(name)), [])
})

test('nothing that is to be survived is without a test', () => {
  const { without } = table('| what comes | tests |\n|---|---|\n| a flood | `a_test`, `another one` |\n| a drought | |\n')
  assert.deepEqual(without, ['a drought'])
  assert.deepEqual(table(fs.readFileSync(path.join(ROOT, 'docs', 'security.md'), 'utf8')).without, [])
})

/** The rows of the tables of `what comes`, the tests that they name, and the rows that name none. */
function table (text) {
  const [rows, named, without] = [[], [], []]
  let inside = false
  for (const line of text.split('\n')) {
    if (!line.startsWith('|')) inside = false
    const [, what, tests] = line.split(/(?<!\\)\|/).map(cell => cell.trim())
    if (inside && !what.startsWith('---')) {
      const found = [...tests.matchAll(/`([^`]+)`/g)].map(match => match[1])
      rows.push(what)
      named.push(...found)
      if (found.length === 0) without.push(what)
    }
    if (what === 'what comes') inside = true
  }
  return { rows: rows.length, named, without }
}

/** The names of the tests in a folder's Rust and JavaScript. */
function testsIn (folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const place = path.join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === 'target' ? [] : testsIn(place)
    if (!/\.(rs|js)$/.test(entry.name)) return []
    const text = fs.readFileSync(place, 'utf8')
    const pattern = entry.name.endsWith('.rs')
      ? /#\[(?:\w+::)*test(?:\([^\]]*\))?\]\s*(?:#\[[^\]]*\]\s*)*(?:async )?fn (\w+)\(/g
      : /\btest\('((?:[^'\\]|\\.)*)'/g
    return [...text.matchAll(pattern)].map(match => match[1])
  })
}
