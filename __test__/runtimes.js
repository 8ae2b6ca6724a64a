'use strict'

// The package as it is packed, in each runtime that can be had from npm's registry: a file is delivered by a program
// that requires it, one that imports it, in worker threads, by the command line, and in the tests of jest and vitest.
// Ends with 1 where one fails. The runtimes are kept in target/runtimes for the next time; they are a GB.
//
//   npm run test:runtimes -- [--only NAME,…] [--list]

const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { withCleanup } = require('./fixtures/cleanup')
const { npm, publish } = require('./fixtures/registry')

const PROGRAMS = path.join(__dirname, 'runtimes')
const KEPT = path.join(__dirname, '..', 'target', 'runtimes')
const NODES = [20, 22, 24, 26]
const TIME_LIMIT_MS = 120_000

const { platform, arch } = process
const bunArch = { x64: 'x64', arm64: 'aarch64' }[arch]
/** What it is called on each platform: npm's package, and the program in it. */
const NODE_PACKAGE = `node-${{ win32: 'win' }[platform] ?? platform}-${arch}`
const BUN_PACKAGE = `@oven/bun-${{ win32: 'windows' }[platform] ?? platform}-${bunArch}`
const DENO_PACKAGE = `@deno/${platform}-${arch}${platform === 'linux' ? '-glibc' : ''}`

/** Each runtime: what npm installs, as what, the program, and what stands before a script. */
const RUNTIMES = {
  ...Object.fromEntries(NODES.map(version => [`node-${version}`, {
    request: `node-${version}@npm:${NODE_PACKAGE}@${version}`, program: `node-${version}/bin/node`, before: []
  }])),
  bun: { request: BUN_PACKAGE, program: `${BUN_PACKAGE}/bin/bun`, before: [] },
  deno: { request: DENO_PACKAGE, program: `${DENO_PACKAGE}/deno`, before: ['run', '--allow-all'] }
}

const DEMO = ['node_modules/ats-p2p/bin/ats-p2p.js', 'demo', 'package.json']
const SCRIPTS = { require: ['required.cjs'], import: ['imported.mjs'], workers: ['workers.cjs'], command: DEMO }

/** Each runner of tests, and its arguments for ours: in processes of its own, and in threads. */
const JEST = ['node_modules/jest/bin/jest.js', '--testMatch', '**/*.jest.cjs']
const VITEST = ['node_modules/vitest/vitest.mjs', 'run', '--dir', '.']
const RUNNERS = {
  jest: { tests: JEST, 'tests in threads': [...JEST, '--workerThreads', '--maxWorkers=2'] },
  vitest: { tests: VITEST, 'tests in threads': [...VITEST, '--pool=threads'] }
}

async function main () {
  const { values } = parseArgs({ options: { only: { type: 'string' }, list: { type: 'boolean', default: false } } })
  const names = [...Object.keys(RUNTIMES), ...Object.keys(RUNNERS)]
  if (values.list) return console.log(names.join('\n'))
  const wanted = values.only?.split(',') ?? names
  for (const name of wanted) assert.ok(names.includes(name), `there is no runtime ${name}`)
  await withCleanup(async (t) => {
    const started = performance.now()
    const { install, packages } = await publish(t)
    const tarballs = [...packages.values()].map(({ tarball }) => tarball).filter(Boolean)
    const packed = performance.now()
    const project = await install(t)
    programs(project)
    const installed = performance.now()
    check('packed', 'the demo', process.execPath, DEMO, project)
    console.log(`packed in ${seconds(packed - started)} s; installed in ${seconds(installed - packed)} s; ` +
      `${seconds(performance.now() - packed)} s from the installation to the first delivered file`)
    for (const name of wanted) {
      if (name in RUNTIMES) await inRuntime(name, project)
      else await inRunner(t, name, install, tarballs)
    }
  })
}

async function inRuntime (name, project) {
  const { request, program, before } = RUNTIMES[name]
  const file = path.join(KEPT, 'node_modules', program)
  if (!fs.existsSync(file)) {
    fs.mkdirSync(KEPT, { recursive: true })
    if (!fs.existsSync(path.join(KEPT, 'package.json'))) fs.writeFileSync(path.join(KEPT, 'package.json'), '{ "private": true }\n')
    await npm(['install', '--no-audit', '--no-fund', '--force', '--ignore-scripts', request], KEPT)
  }
  for (const [what, args] of Object.entries(SCRIPTS)) check(name, what, file, [...before, ...args], project, args === DEMO ? undefined : 'delivered\n')
}

/** A project that has the runner from npm's registry, and the package from its files. */
async function inRunner (t, name, install, tarballs) {
  const project = await install(t, [])
  programs(project)
  await npm(['install', '--no-audit', '--no-fund', '--ignore-scripts', name, ...tarballs], project)
  // Two files of the same tests, so that there are two of what runs them.
  fs.copyFileSync(path.join(project, 'exchange.jest.cjs'), path.join(project, 'second.jest.cjs'))
  fs.copyFileSync(path.join(project, 'exchange.test.mjs'), path.join(project, 'second.test.mjs'))
  for (const [what, args] of Object.entries(RUNNERS[name])) check(name, what, process.execPath, args, project)
}

function programs (project) {
  fs.cpSync(PROGRAMS, project, { recursive: true })
}

function check (name, what, program, args, cwd, says) {
  const started = performance.now()
  const env = { ...process.env, ATS_P2P_HOME: path.join(cwd, '.state') }
  const { status, signal, stdout, stderr, error } = spawnSync(program, args, { cwd, env, encoding: 'utf8', timeout: TIME_LIMIT_MS })
  const isRight = status === 0 && (!says || stdout.endsWith(says))
  console.log(`${isRight ? '✔' : '✖'} ${name}: ${what} (${seconds(performance.now() - started)} s)`)
  if (isRight) return
  process.exitCode = 1
  console.log(`ended with ${error?.message ?? signal ?? status}\n${stdout}${stderr}`)
}

function seconds (milliseconds) {
  return (milliseconds / 1000).toFixed(1)
}

main().catch((error) => {
  console.error(error)
  process.exitCode = 1
})
