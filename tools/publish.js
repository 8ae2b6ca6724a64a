#!/usr/bin/env node
// Publishes what tools/pack.js laid out in a folder: the packages of the platforms first, so that the package itself,
// which names them, never stands there without them. What a run before this one published is left out.
//
//   node tools/publish.js FOLDER --tag v1.2.3     as the version that the tag says
//   node tools/publish.js FOLDER --dry-run        says what would be published
//
// A version like 1.2.3-rc.1 gets npm's tag `next` instead of `latest`.
'use strict'
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')

const { values, positionals: [folder] } = parseArgs({
  allowPositionals: true,
  options: { tag: { type: 'string' }, 'dry-run': { type: 'boolean', default: false } }
})
if (folder === undefined || (values.tag === undefined) !== values['dry-run']) {
  throw new Error('node tools/publish.js FOLDER --tag vVERSION | --dry-run')
}

const { name: last, version } = require('../package.json')
if (!values['dry-run'] && values.tag !== `v${version}`) throw new Error(`the tag is ${values.tag}, the version ${version}`)

const names = fs.readdirSync(folder).filter(name => name !== last).sort()
for (const name of [...names, last]) {
  if (isPublished(name)) {
    console.log(`${name}@${version} is there already`)
    continue
  }
  const how = values['dry-run'] ? ['--dry-run'] : ['--provenance']
  const tag = version.includes('-') ? 'next' : 'latest'
  const { status } = npm(['publish', path.resolve(folder, name), '--access', 'public', '--tag', tag, ...how], 'inherit')
  if (status !== 0) throw new Error(`npm publish of ${name} ended with ${status}`)
}

function isPublished (name) {
  return npm(['view', `${name}@${version}`, 'version'], 'pipe', 'ignore').stdout?.trim() === version
}

function npm (args, stdio, stderr = 'inherit') {
  return spawnSync('npm', args, { stdio: ['ignore', stdio, stderr], encoding: 'utf8' })
}
