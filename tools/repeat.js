#!/usr/bin/env node
// Runs every test binary of some packages many times, and counts the failures: on the machine as it is, with all cores
// kept busy, and on one core only (the last on Linux).
//
//   node tools/repeat.js -p udx -p secret-stream
//   node tools/repeat.js -p udx --only loopback --idle 5 --busy 0 --one 0
//
// Whatever follows `--` goes to the test binaries, such as the name of a test. The output of a failed run is kept in
// target/repeat. Ends with status 1 if any run failed.
'use strict'
const { spawn, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')

const ROOT = path.join(__dirname, '..')
const KEPT = path.join(ROOT, 'target', 'repeat')

const { values: options, positionals: passedOn } = parseArgs({
  allowPositionals: true,
  options: {
    package: { type: 'string', short: 'p', multiple: true, default: [] },
    features: { type: 'string' },
    only: { type: 'string', multiple: true },
    idle: { type: 'string', default: '30' },
    busy: { type: 'string', default: '15' },
    one: { type: 'string', default: '15' },
    // Seconds after which a run has hung, and counts as failed.
    timeout: { type: 'string', default: '900' }
  }
})
/** Keeps a core busy for as long as this process lives. */
const LOAD = 'const parent = process.ppid; while (process.ppid === parent) for (let i = 0; i < 1e7; i++);'

const MODES = [
  { name: 'idle', runs: Number(options.idle), prefix: [], load: 0 },
  { name: 'busy', runs: Number(options.busy), prefix: [], load: os.availableParallelism() },
  { name: 'one core', runs: Number(options.one), prefix: ['taskset', '-c', '0'], load: 0 }
]

main()

async function main () {
  let failures = 0
  for (const binary of build()) {
    const counts = []
    for (const mode of MODES.filter(mode => mode.runs > 0)) {
      const failed = await repeat(binary, mode)
      counts.push(`${mode.name} ${failed.length} of ${mode.runs}${failed.length ? ` (${failed.join(', ')})` : ''}`)
      failures += failed.length
    }
    console.log(`${binary.name}: failed ${counts.join('; ')}`)
  }
  process.exitCode = failures ? 1 : 0
}

/** Builds the tests: of each binary its name, its file and the folder that it runs in. */
function build () {
  const packages = options.package.length ? options.package.flatMap(name => ['-p', name]) : ['--workspace']
  const features = options.features ? ['--features', options.features] : []
  const args = ['test', '--no-run', '--message-format=json-render-diagnostics', ...packages, ...features]
  const { status, stdout } = spawnSync('cargo', args, {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    stdio: ['ignore', 'pipe', 'inherit']
  })
  if (status !== 0) process.exit(1)
  return stdout.split('\n').filter(line => line.startsWith('{')).map(line => JSON.parse(line))
    .filter(message => message.executable && message.profile.test)
    .filter(message => !options.only || options.only.includes(message.target.name))
    .map(message => {
      const folder = path.dirname(message.manifest_path)
      return { name: `${path.basename(folder)}/${message.target.name}`, file: message.executable, folder }
    })
}

/** Runs a binary as often as the mode says. Gives the numbers of the runs that failed. */
async function repeat (binary, mode) {
  const load = Array.from({ length: mode.load }, () => spawn(process.execPath, ['-e', LOAD]))
  const failed = []
  try {
    for (let run = 1; run <= mode.runs; run++) {
      const { status, output } = await once(binary, mode)
      if (status === 0) continue
      failed.push(run)
      fs.mkdirSync(KEPT, { recursive: true })
      const name = `${binary.name.replace('/', '-')}.${mode.name.replace(' ', '-')}.${run}.log`
      fs.writeFileSync(path.join(KEPT, name), output)
    }
  } finally {
    for (const process of load) process.kill('SIGKILL')
  }
  return failed
}

function once (binary, mode) {
  const [program, ...args] = [...mode.prefix, binary.file, ...passedOn]
  const child = spawn(program, args, {
    cwd: binary.folder,
    env: { ...process.env, CARGO_MANIFEST_DIR: binary.folder },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  const hung = setTimeout(() => child.kill('SIGKILL'), Number(options.timeout) * 1000)
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', data => { output += data })
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (status, signal) => {
      clearTimeout(hung)
      resolve({ status, output: signal ? `${output}\nended by ${signal}\n` : output })
    })
  })
}
