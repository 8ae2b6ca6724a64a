'use strict'

// Measures transfers on this machine and writes what came out to docs/benchmarks: a table, a plot, and every
// single run. Rows that are not run again keep the numbers that they had.
//
//   npm run bench -- [--runs N] [--link-runs N] [--size MIB] [--only ROW,…] [--quick] [--out DIR] [--list]

const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { machine } = require('./machine')
const { MIB, Session } = require('./session')
const { again, command } = require('./rows/commands')
const { folders } = require('./rows/folders')
const { limit } = require('./rows/limit')
const { links } = require('./rows/links')
const { latency, parallel, small, together } = require('./rows/many')
const { others } = require('./rows/others')
const { recipients } = require('./rows/recipients')
const { simulated } = require('./rows/simulated')
const { growth, pairs, syscalls, tunnel } = require('./rows/speed')
const { plots } = require('./plot')
const { table } = require('./table')

const ROWS = [
  ...pairs, tunnel, ...others, limit, syscalls, parallel, small, together, latency, ...folders, recipients, command, again, ...links,
  simulated, growth
]

/** Minutes after which no row is begun any more, and after which one that runs is given up. */
const ENOUGH = 30
const TOO_MUCH = 40
/** How long everything may take to end after that. */
const PATIENCE_MS = 10_000

const OPTIONS = {
  runs: { type: 'string', default: '5' },
  'link-runs': { type: 'string', default: '1' },
  size: { type: 'string' },
  only: { type: 'string' },
  quick: { type: 'boolean', default: false },
  out: { type: 'string' },
  list: { type: 'boolean', default: false }
}

async function main () {
  const { values } = parseArgs({ options: OPTIONS })
  if (values.list) return console.log(ROWS.map(({ id }) => id).join('\n'))
  const wanted = values.only?.split(',') ?? ROWS.map(({ id }) => id)
  const unknown = wanted.filter(id => !ROWS.some(row => row.id === id))
  if (unknown.length) throw new Error(`no such row: ${unknown.join(', ')}. There are: ${ROWS.map(({ id }) => id).join(', ')}`)
  const options = {
    quick: values.quick,
    runs: values.quick ? 1 : count(values.runs, '--runs'),
    linkRuns: count(values['link-runs'], '--link-runs'),
    size: count(values.size ?? (values.quick ? '64' : '1024'), '--size') * MIB
  }
  // A quick look is not what the published numbers are.
  const out = path.resolve(values.out ?? path.join(__dirname, '..', values.quick ? 'target/benchmarks' : 'docs/benchmarks'))
  const failed = await measure(ROWS.filter(({ id }) => wanted.includes(id)), options, out)
  if (failed.length) process.exitCode ??= 1
}

/** Runs the rows one after another and writes all results after each; the rows that failed. */
async function measure (rows, options, out) {
  const results = read(path.join(out, 'results.json'))
  const here = machine()
  const began = Date.now()
  const failed = []
  let session
  let ending
  const end = (why) => {
    ending ??= why
    process.exitCode = 130
    // What the running row waits for fails by this.
    session?.close()
    setTimeout(() => process.exit(), PATIENCE_MS).unref()
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, end)
  const timer = setTimeout(end, TOO_MUCH * 60_000, `${TOO_MUCH} minutes`)
  for (const row of rows) {
    if (ending) break
    if (Date.now() - began > ENOUGH * 60_000) {
      console.error(`${row.id}: left out, ${ENOUGH} minutes are over; run it with --only ${row.id}`)
      failed.push(row.id)
      continue
    }
    const started = Date.now()
    session = new Session()
    try {
      const raw = await row.measure(session, options)
      // What another run measured with a program that is not here now stays.
      if (!raw.missing || !results[row.id]) results[row.id] = { machine: here, quick: options.quick, ...raw }
      write(out, results)
      const seconds = ((Date.now() - started) / 1000).toFixed(0)
      console.error(`${row.id}: ${raw.missing ? `not here: ${raw.missing}` : `measured in ${seconds} s`}`)
    } catch (error) {
      failed.push(row.id)
      if (!ending) console.error(`${row.id}: ${error.stack}`)
    } finally {
      await session.close()
    }
  }
  clearTimeout(timer)
  if (ending) console.error(`ended by ${ending}; rows that were done are in ${out}`)
  else console.log(table(results))
  return failed
}

function read (file) {
  return fs.existsSync(file) ? JSON.parse(fs.readFileSync(file, 'utf8')) : {}
}

function write (out, results) {
  fs.mkdirSync(out, { recursive: true })
  fs.writeFileSync(path.join(out, 'results.json'), JSON.stringify(results, null, 1) + '\n')
  fs.writeFileSync(path.join(out, 'README.md'), table(results))
  for (const [name, svg] of Object.entries(plots(results))) fs.writeFileSync(path.join(out, `${name}.svg`), svg)
}

function count (text, name) {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new Error(`${name} takes a whole number`)
  return number
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 2
})
