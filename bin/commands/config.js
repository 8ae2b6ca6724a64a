'use strict'

const { CHANNEL, CONNECTION, MAX_CONCURRENT, MAX_RATE, MAX_SIZE, TIMEOUT, VERIFIED, nodeOptions, numberProblem } = require('../flags')
const { USAGE_ERROR } = require('../exit-codes')
const { flagOf } = require('../failure')
const { quoted } = require('../output')

module.exports = {
  summary: 'Show every setting, its value and who said so',
  answers: true,
  flags: {
    allow: { value: 'ID', help: 'take files from this actor only, or from ID=IDENTITY; may be repeated', otherwise: 'anyone', multiple: true, completes: 'peer' },
    ...VERIFIED,
    ...CHANNEL,
    ...MAX_SIZE,
    ...MAX_RATE,
    ...MAX_CONCURRENT,
    ...TIMEOUT,
    ...CONNECTION
  },
  details: ['Secrets are masked, and nothing is asked of any service. The files are JSON; the last column says which option, variable or file has decided.'],
  examples: [
    ['ats-p2p config', 'What holds in this folder'],
    ["ats-p2p config --json | jq '.settings[] | select(.name == \"atsUrl\")'", 'One setting, for a program']
  ],

  check: numberProblem,

  async run ({ values, output }) {
    const { settings } = require('../..')
    const found = await settings(nodeOptions(values))
    output.say(table(found.settings, values), 'config', found)
    if (!output.json) {
      for (const note of found.notes) output.say(`Note: ${quoted(note)}`)
      for (const warning of found.warnings) output.warning(undefined, quoted(warning))
    }
    if (found.problem === null) return 0
    output.problem(found.problem)
    return USAGE_ERROR
  }
}

function table (settings, values) {
  const rows = settings.map(setting => [setting.name, shown(setting.value), origin(setting, values)])
  const widths = [0, 1].map(column => Math.max(...rows.map(row => row[column].length).filter(length => length <= 48)))
  return rows.map(([name, value, from]) => `${name.padEnd(widths[0])}  ${value.padEnd(widths[1])}  ${from}`).join('\n')
}

function shown (value) {
  if (value === null || value === '') return '-'
  return quoted(Array.isArray(value) ? value.join(', ') : value)
}

/** Who said so, by the name that people know it by. */
function origin ({ name, source, from }, values) {
  if (source === 'default') return 'default'
  if (source !== 'option') return quoted(from)
  const flag = flagOf(name)
  return values[flag.slice(2)] === undefined ? flag.replace('--', '--no-') : flag
}
