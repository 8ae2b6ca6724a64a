'use strict'

// One very large file from one process to another, checked by hash. Needs twice its size on the disk.
//
//   npm run test:large -- [--size GIB]     (5 by default)

const { spawn } = require('node:child_process')
const crypto = require('node:crypto')
const { once } = require('node:events')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')

const PROGRAM = path.join(__dirname, '..', 'bin', 'ats-p2p.js')
const BLOCK_LEN = 16 * 1024 * 1024

async function main () {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '5' } } })
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-large-'))
  try {
    const file = path.join(folder, 'large.bin')
    const handle = await fs.promises.open(file, 'w')
    const size = Number(values.size) * 1024 ** 3
    for (let written = 0; written < size; written += BLOCK_LEN) await handle.write(crypto.randomBytes(BLOCK_LEN))
    await handle.close()
    const demo = spawn(process.execPath, [PROGRAM, 'demo', file], { stdio: 'inherit', env: { ...process.env, TMPDIR: folder } })
    const [code] = await once(demo, 'close')
    process.exitCode = code
  } finally {
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

main()
