'use strict'

// Compares this checkout with another one, built too: the rows between two processes, in interleaved pairs, so that
// what the machine does meanwhile meets both. Prints of each figure the median ratio, this one to the other, larger
// being better, and an interval that holds the true one with a probability of 95 % or more. Ends with status 1 if a
// whole interval lies below the floor: then this checkout is slower, and not only the machine noisy.
//
//   node benches/compare.js --other ../before [--pairs 9] [--size MIB] [--floor 0.95] [--only ROW,…] [--one-hub]
//
// With --one-hub the peers of both use this checkout's hub: what a hub costs is then left out.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { median, speed } = require('./figures')

const HERE = path.join(__dirname, '..')

/** What is compared of each row, as numbers of which the larger is the better. */
const FIGURES = {
  'ours-ours': result => ({ 'ours to ours': speed(result) }),
  'ours-js': result => ({ 'ours to JavaScript': speed(result) }),
  'js-ours': result => ({ 'JavaScript to ours': speed(result) }),
  parallel: ({ connections }) => Object.fromEntries(connections.map(({ connections, runs }) =>
    [`${connections} at once`, speed({ runs })])),
  small: ({ runs }) => ({ 'small files': 1 / median(runs.map(({ seconds }) => seconds)) }),
  latency: ({ took }) => ({ 'one small file': 1 / took.p50 })
}

const { values } = parseArgs({
  options: {
    other: { type: 'string' },
    pairs: { type: 'string', default: '9' },
    size: { type: 'string', default: '256' },
    floor: { type: 'string', default: '0.95' },
    only: { type: 'string', default: Object.keys(FIGURES).join(',') },
    'one-hub': { type: 'boolean', default: false }
  }
})
if (!values.other) throw new Error('--other names the folder of the other checkout')

const ratios = new Map()
for (let pair = 0; pair < Number(values.pairs); pair++) {
  const order = [HERE, path.resolve(values.other)]
  const measured = new Map((pair % 2 ? order.reverse() : order).map(folder => [folder, measure(folder)]))
  const [ours, theirs] = [measured.get(HERE), measured.get(path.resolve(values.other))]
  for (const [what, figure] of Object.entries(ours)) {
    ratios.set(what, [...ratios.get(what) ?? [], figure / theirs[what]])
  }
  console.error(`pair ${pair + 1} of ${values.pairs}: ${Object.keys(ours).map(what => `${what} ${(ours[what] / theirs[what]).toFixed(3)}`).join(', ')}`)
}
for (const [what, all] of ratios) {
  const [low, high] = interval(all)
  const slower = high < Number(values.floor)
  if (slower) process.exitCode = 1
  console.log(`${what}: ${median(all).toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})${slower ? ', slower' : ''}`)
}

/** The figures of one run of all rows in a checkout. */
function measure (folder) {
  const out = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-compare-'))
  try {
    const args = ['benches/bench.js', '--only', values.only, '--runs', '1', '--size', values.size, '--out', out]
    const env = values['one-hub'] ? { ...process.env, BENCH_HUB: HERE } : process.env
    const { status } = spawnSync(process.execPath, args, { cwd: folder, env, stdio: ['ignore', 'ignore', 'inherit'] })
    if (status !== 0) throw new Error(`the benchmark in ${folder} ended with ${status}`)
    const results = JSON.parse(fs.readFileSync(path.join(out, 'results.json'), 'utf8'))
    return Object.assign({}, ...values.only.split(',').map(row => FIGURES[row](results[row])))
  } finally {
    fs.rmSync(out, { recursive: true, force: true })
  }
}

/**
 * Two of the ratios between which the true median lies with a probability of 95 % or more, whatever their spread: each
 * is above it or below it as a coin falls. With fewer than six nothing narrower than all of them does.
 */
function interval (ratios) {
  const sorted = [...ratios].sort((a, b) => a - b)
  const count = sorted.length
  let cut = 0
  let outside = 2 * 0.5 ** count
  for (let below = 1, ways = count; below < count / 2; below++) {
    outside += 2 * ways * 0.5 ** count
    if (outside > 0.05) break
    cut = below
    ways = ways * (count - below) / (below + 1)
  }
  return [sorted[cut], sorted[count - 1 - cut]]
}
