'use strict'

// Interrupts one large transfer at 90 % in each way of interrupted.test.js, and holds it to its bytes and times. Needs
// Linux, root, and three times the file's size on the disk.
//
//   npm run test:interrupted -- [--size BYTES|…M|…G] [--cut SECONDS]     (2G and 60 by default)

const { spawnSync } = require('node:child_process')
const path = require('node:path')
const { parseArgs } = require('node:util')

const UNITS = { '': 1, M: 1024 ** 2, G: 1024 ** 3 }

const { values } = parseArgs({
  options: { size: { type: 'string', default: '2G' }, cut: { type: 'string', default: '60' } }
})
const [, number, unit] = values.size.match(/^(\d+)([MG]?)$/) ?? []
const cut = Number(values.cut)
if (number === undefined || !(cut > 0)) {
  console.error('--size is a number of bytes, or one of M or G; --cut a number of seconds')
  process.exit(2)
}
const { status } = spawnSync(process.execPath, ['--test', '--test-reporter=spec', path.join(__dirname, 'interrupted.test.js')], {
  stdio: 'inherit',
  env: {
    ...process.env,
    INTERRUPTED_TEST_BYTES: String(number * UNITS[unit]),
    INTERRUPTED_TEST_CUT_MS: String(cut * 1000)
  }
})
process.exit(status ?? 1)
