'use strict'

// Transfers between two agents while their processes, the hub, the link and the disk fail, by a plan that comes of a
// seed. Ends with 1 where a transfer neither arrived nor said why it did not.
//
//   npm run test:chaos -- [--seed N] [--transfers N] [--minutes M] [--largest MB] [--keep] [--verbose]

const { parseArgs } = require('node:util')
const { run } = require('./chaos/run')

async function main () {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: String(Math.floor(Math.random() * 1e6)) },
      transfers: { type: 'string', default: '300' },
      minutes: { type: 'string', default: '30' },
      largest: { type: 'string', default: '500' },
      keep: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false }
    }
  })
  const { ok, summary, problems, folder } = await run({
    seed: Number(values.seed),
    transfers: Number(values.transfers),
    minutes: Number(values.minutes),
    largest: Number(values.largest) * 1024 * 1024,
    keep: values.keep,
    say: values.verbose ? console.log : () => {}
  })
  for (const problem of problems) console.log(problem)
  console.log(summary)
  if (!ok || values.keep) console.log(`Logs and files: ${folder}`)
  process.exitCode = ok ? 0 : 1
}

main()
