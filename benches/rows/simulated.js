'use strict'

// What links longer and faster than can be emulated here show, and flows beside each other: tests of the UDX state
// machines in virtual time, which hold the asked numbers and come out the same on any machine.

const { spawnSync } = require('node:child_process')
const path = require('node:path')

const ROOT = path.join(__dirname, '..', '..')

const TESTS = {
  gigabit: 'a_gigabit_over_a_tenth_of_a_second_is_filled_within_ten_seconds',
  sharing: 'streams_share_a_link_whenever_they_start',
  lengths: 'streams_of_different_length_share_a_link'
}

const simulated = {
  id: 'simulated',
  async measure () {
    const args = ['test', '-p', 'udx', '--test', 'congestion', '--', '--exact', ...Object.values(TESTS)]
    const { error, stdout } = spawnSync('cargo', args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'ignore'], encoding: 'utf8' })
    if (error) throw error
    const passes = ([name, test]) => {
      const found = new RegExp(`^test ${test} \\.\\.\\. (\\w+)`, 'm').exec(stdout)
      if (!found) throw new Error(`no test ran that is called ${test}`)
      return [name, found[1] === 'ok']
    }
    return { passes: Object.fromEntries(Object.entries(TESTS).map(passes)) }
  }
}

module.exports = { simulated }
