'use strict'

// What is published, as its users get it: packed, installed from a registry into an empty project, with no Rust there.

const { test, describe, before, after } = require('node:test')
const assert = require('node:assert/strict')
const { execFileSync, spawnSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { child, contents, hub, makeFile, sha256, tempFolder } = require('./fixtures/harness')
const { PLAIN_PATH, publish } = require('./fixtures/registry')
const { PLATFORMS } = require('../tools/pack')
const { exitCode } = require('../bin/exit-codes')
const addon = require('../addon')

const LIMIT = { timeout: 300_000 }
/** Most bytes of a platform's package, compressed. */
const LARGEST = 8_000_000
/** Most that loading the package may take, in milliseconds of a processor, with room for a busy machine. */
const LOADED_MS = 15
const SLACK = 4
const TRIES = 9

const ROOT = path.join(__dirname, '..')
assert.ok(addon.NativeNode)
/** The addon that the tests run with. */
const ADDON = Object.keys(require.cache).find(file => file.endsWith('.node'))
const OURS = path.basename(ADDON, '.node').replace('ats-p2p.', '')

/** A program in `project`, to its end, with no Rust on its PATH. */
function run (project, args, env = {}) {
  return spawnSync(process.execPath, args, { cwd: project, encoding: 'utf8', timeout: 120_000, env: plain(project, env) })
}

function plain (project, env = {}) {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('ATS_'))
  return { ...Object.fromEntries(inherited), PATH: PLAIN_PATH, HOME: project, ATS_P2P_HOME: path.join(project, '.state'), ...env }
}

test('the release makes what it packs', () => {
  const workflow = fs.readFileSync(path.join(ROOT, '.github', 'workflows', 'release.yml'), 'utf8')
  const [notices, pack] = ['node tools/notices.js', 'node tools/pack.js packages --all'].map(command => workflow.indexOf(`run: ${command}`))
  assert.ok(notices > 0 && notices < pack)
})

describe('packed and installed', LIMIT, () => {
  let published
  let project

  // What belongs to all tests of this suite goes with it.
  let end
  const suite = { after: (cleanup) => { end = cleanup } }

  before(async () => {
    published = await publish(suite)
    project = await published.install(suite)
  })

  after(() => end?.())

  const module = (file, text) => fs.writeFileSync(path.join(project, file), text)
  const program = () => path.join(project, 'node_modules', 'ats-p2p', 'bin', 'ats-p2p.js')

  test('npm takes the package and that of this platform, and nothing else', () => {
    assert.deepEqual(contents(path.join(project, 'node_modules')).filter(name => !name.startsWith('.')),
      ['ats-p2p', `ats-p2p-${OURS}`])
    if (process.platform !== 'win32') assert.equal(spawnSync('cargo', ['--version'], { env: plain(project) }).error?.code, 'ENOENT')
  })

  test('the package has what its users need, and no sources', () => {
    const { files, manifest } = published.packages.get('ats-p2p')
    for (const wanted of ['LICENSE', 'README.md', 'package.json', 'index.js', 'index.d.ts', 'addon.js', 'bin/ats-p2p.js', 'docs/operations.md']) {
      assert.ok(files.includes(wanted), `${wanted} is missing`)
    }
    const foreign = files.filter(file => !/^(LICENSE|README\.md|[A-Z]+\.md|package\.json|(index|addon)\.(js|d\.ts)|(lib|bin|docs|man|completions|examples)\/.*)$/.test(file))
    assert.deepEqual(foreign, [])
    assert.deepEqual(files.filter(file => /\.(rs|toml|node|png)$/.test(file)), [])
    assert.deepEqual(Object.keys(manifest).filter(field => /scripts|dependencies/i.test(field)), ['optionalDependencies'])
    assert.deepEqual(manifest.optionalDependencies, Object.fromEntries(PLATFORMS.map(platform => [`ats-p2p-${platform}`, manifest.version])))
  })

  test('the package of a platform has its addon alone, and is small', (t) => {
    const { files, size } = published.packages.get(`ats-p2p-${OURS}`)
    // The notices are there where somebody made them: npm run notices.
    assert.deepEqual(files.filter(file => file !== 'THIRD-PARTY-NOTICES.txt').sort(), ['LICENSE', 'README.md', `ats-p2p.${OURS}.node`, 'package.json'])
    const isDebug = fs.readFileSync(ADDON).includes('.debug_info')
    t.diagnostic(`${(size / 1e6).toFixed(1)} MB compressed${isDebug ? ', with debug information' : ''}`)
    if (process.env.CI || !isDebug) assert.ok(size <= LARGEST, `${size} bytes compressed`)
  })

  test('each platform has a manifest of its own', () => {
    const { version, repository, license, engines, napi } = require('../package.json')
    assert.equal(napi.targets.length, PLATFORMS.length)
    for (const platform of PLATFORMS) {
      const [os, cpu, abi] = platform.split('-')
      const libc = { gnu: ['glibc'], musl: ['musl'] }[abi]
      const manifest = require(`../npm/${platform}/package.json`)
      const { name, main, files } = manifest
      assert.deepEqual({ name, main, files }, { name: `ats-p2p-${platform}`, main: `ats-p2p.${platform}.node`, files: [`ats-p2p.${platform}.node`, 'THIRD-PARTY-NOTICES.txt'] })
      assert.deepEqual({ os: manifest.os, cpu: manifest.cpu, libc: manifest.libc }, { os: [os], cpu: [cpu], libc })
      assert.deepEqual([manifest.version, manifest.license, manifest.engines], [version, license, engines])
      assert.equal(manifest.repository.url, repository.url)
    }
  })

  test('require and import find every name', () => {
    module('names.cjs', `console.log(JSON.stringify(Object.keys(require('ats-p2p')).sort()))`)
    const names = JSON.parse(run(project, ['names.cjs']).stdout)
    assert.deepEqual(names, Object.keys(require('..')).sort())
    module('names.mjs', `
      import p2p, { ${names.join(', ')} } from 'ats-p2p'
      import manifest from 'ats-p2p/package.json' with { type: 'json' }
      const named = { ${names.join(', ')} }
      if (Object.keys(named).some(name => named[name] !== p2p[name])) throw new Error('named otherwise')
      console.log(manifest.version === version)`)
    const { stdout, stderr } = run(project, ['--no-warnings', 'names.mjs'])
    assert.equal(stdout, 'true\n', stderr)
  })

  test('its types are found, from both kinds of modules', () => {
    const source = 'import { createNode, AtsP2pError, type NodeOptions } from "ats-p2p"\nexport const made = createNode({ actorId: "a" } satisfies NodeOptions)\nexport const error = new AtsP2pError("", { code: "ATS_P2P_STATE" })\n'
    module('types.mts', source)
    module('types.cts', source)
    const { status, stdout } = run(project, [
      path.join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '--noEmit', '--strict', '--target', 'es2022', '--module', 'node16',
      '--skipLibCheck', '--typeRoots', path.join(ROOT, 'node_modules', '@types'), '--types', 'node', 'types.mts', 'types.cts'
    ])
    assert.equal(status, 0, stdout)
  })

  test('the demo delivers a file', () => {
    const { status, stdout, stderr } = run(project, [program(), 'demo', path.join(project, 'package.json')])
    assert.equal(status, 0, `${stdout}${stderr}`)
  })

  test('send and listen deliver a file', async (t) => {
    const { url } = await hub(t)
    const { filePath, hash } = makeFile(tempFolder(t), 'data.bin', 3_000_000)
    const start = (actorId, args) => child(t, [program(), ...args, '--ats-url', url, '--actor-id', actorId, '--json'], {
      cwd: project, env: plain(project, { ATS_P2P_HOME: path.join(project, `.${actorId}`) })
    })
    const listening = start('b', ['listen', '--save-dir', 'inbox'])
    await listening.line('connected')
    const sent = await start('a', ['send', filePath, '--to', 'b']).ended
    assert.equal(sent.code, 0, sent.stderr)
    assert.equal(sha256(fs.readFileSync(path.join(project, 'inbox', 'data.bin'))), hash)
  })

  test('loading it takes little time, starts no thread and opens nothing', (t) => {
    module('load.cjs', `
      const fs = require('node:fs')
      const open = () => process.platform === 'linux' ? ['task', 'fd'].map(what => fs.readdirSync('/proc/self/' + what).length) : []
      const before = open()
      const start = process.cpuUsage()
      require('ats-p2p')
      const { user, system } = process.cpuUsage(start)
      console.log(JSON.stringify({ took: (user + system) / 1000, before, after: open() }))`)
    const tries = Array.from({ length: TRIES }, () => JSON.parse(run(project, ['load.cjs']).stdout))
    const { before, after } = tries[0]
    assert.deepEqual(after, before)
    const times = tries.map(({ took }) => took).sort((a, b) => a - b)
    t.diagnostic(`loaded in ${times[TRIES >> 1].toFixed(1)} ms of a processor at the median, ${times[0].toFixed(1)} ms at best`)
    assert.ok(times[0] < SLACK * LOADED_MS, `loaded in ${times[0]} ms of a processor at best`)
  })
})

describe('where no addon fits', LIMIT, () => {
  /** The package without its addon, in a folder of its own, on a machine that says `as` of itself. */
  function without (t, as = {}) {
    const folder = tempFolder(t)
    const { files } = require('../package.json')
    for (const file of ['package.json', ...files.filter(file => !/^!|\.node$/.test(file))]) {
      fs.cpSync(path.join(ROOT, file), path.join(folder, file), { recursive: true })
    }
    fs.writeFileSync(path.join(folder, 'as.cjs'), Object.entries(as).map(([name, value]) =>
      `Object.defineProperty(process, '${name}', { value: '${value}' })`).join('\n'))
    return folder
  }

  function failure (folder) {
    fs.writeFileSync(path.join(folder, 'load.cjs'), `
      const { createNode, AtsP2pError } = require('.')
      createNode().catch((error) => {
        const { name, code, message, retryable, cause } = error
        console.log(JSON.stringify({ name, code, message, retryable, cause: cause?.message, ours: error instanceof AtsP2pError }))
      })`)
    return JSON.parse(execFileSync(process.execPath, ['-r', './as.cjs', 'load.cjs'], { cwd: folder }))
  }

  test('what was looked for is said, and how to have one', (t) => {
    const folder = without(t)
    const { message, ...error } = failure(folder)
    assert.deepEqual(error, { name: 'AtsP2pError', code: 'ATS_P2P_NO_ADDON', retryable: false, ours: true })
    for (const part of [process.platform, process.arch, process.version, path.join(folder, `ats-p2p.${OURS}.node`), `ats-p2p-${OURS}:`,
      '--omit=optional', `npm install ${require('../package.json').repository.url}`]) {
      assert.ok(message.includes(part), `${part} is not in: ${message}`)
    }
  })

  test('of a platform that has none, those are named that have one', (t) => {
    const { message } = failure(without(t, { platform: 'sunos', arch: 'riscv64' }))
    assert.match(message, /fits sunos riscv64, /)
    assert.match(message, /package ats-p2p-sunos-riscv64: not there/)
    for (const platform of PLATFORMS) assert.ok(message.includes(platform), platform)
  })

  test('in a clone the command is that of a clone', (t) => {
    const folder = without(t)
    fs.writeFileSync(path.join(folder, 'Cargo.toml'), '')
    assert.match(failure(folder).message, /: npm run build$/)
  })

  test('an addon that does not load is told with its reason', (t) => {
    const folder = without(t)
    fs.writeFileSync(path.join(folder, `ats-p2p.${OURS}.node`), 'no addon')
    const { message, cause } = failure(folder)
    assert.ok(cause?.length > 0)
    assert.ok(message.includes(cause.split('\n')[0]), `${cause} is not in: ${message}`)
  })

  test('the command says so without a stack trace', (t) => {
    const folder = without(t)
    const command = [path.join(folder, 'bin', 'ats-p2p.js'), 'status', 'x']
    const { status, stdout, stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' })
    assert.equal(status, exitCode({ code: 'ATS_P2P_NO_ADDON' }))
    assert.equal(stdout, '')
    assert.match(stderr, /^ats-p2p: ats-p2p \S+ has no addon that fits /)
    assert.doesNotMatch(stderr, /^ +at |undefined/m)
  })
})
