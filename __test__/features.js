'use strict'

// Checks that the addon's crate compiles without a warning under every combination of its features. All of them
// together, with the tests, are what `npm run lint` looks at.

const { execFileSync } = require('node:child_process')
const path = require('node:path')

const COMBINATIONS = ['', 'hub', 'binding']

for (const features of COMBINATIONS) {
  const args = ['clippy', '--package', 'ats-p2p', '--lib', '--no-default-features', '--features', features]
  console.log(`cargo ${args.join(' ')}`)
  try {
    execFileSync('cargo', [...args, '--', '-D', 'warnings'], { cwd: path.join(__dirname, '..'), stdio: 'inherit' })
  } catch {
    console.error(`With the features "${features}" alone it does not compile cleanly.`)
    process.exit(1)
  }
}
