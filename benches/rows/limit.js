'use strict'

// The parts of a transfer without its protocol: benches/limit.

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const ROOT = path.join(__dirname, '..', '..')

const limit = {
  id: 'limit',
  async measure (session, { runs, size }) {
    const { status } = spawnSync('cargo', ['build', '--quiet', '--release', '-p', 'limit'], { cwd: ROOT, stdio: 'inherit' })
    if (status !== 0) throw new Error('benches/limit did not compile')
    const file = await session.file(size)
    const program = path.join(ROOT, 'target', 'release', 'limit')
    const copy = path.join(path.dirname(file.path), session.name('limit'))
    return { size, ...JSON.parse(await session.output(program, [file.path, copy, String(runs)])) }
  }
}

module.exports = { limit }
