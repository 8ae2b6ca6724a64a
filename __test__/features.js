'use strict'

// Checks that the addon's crate compiles without a warning under every combination of its features. All of them
// together are what `npm run lint` looks at. The other crates and the tests are named beside it so that what both are
// built on is the same, and compiled once.

const { execFileSync } = require('node:child_process')
const path = require('node:path')

const COMBINATIONS = ['', 'ats-p2p/hub', 'ats-p2p/binding']

for (const features of COMBINATIONS) {
  const args = ['clippy', '--workspace', '--all-targets', '--no-default-features', '--features', features]
  console.log(`cargo ${args.join(' ')}`)
  try {
    execFileSync('cargo', [...args, '--', '-D', 'warnings'], { cwd: path.join(__dirname, '..'), stdio: 'inherit' })
  } catch {
    console.error(`With the features "${features}" alone it does not compile cleanly.`)
    process.exit(1)
  }
}
