'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const { test } = require('node:test')
const { PAGE, record } = require('../tools/sessions')
const { noTerminals } = require('./fixtures/terminal')

test('the commands show what docs/terminal.md says', { timeout: 180_000, skip: noTerminals() ?? false }, async () => {
  assert.equal(await record(), fs.readFileSync(PAGE, 'utf8'), 'node tools/sessions.js writes it anew')
})
