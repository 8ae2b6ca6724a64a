'use strict'

// Finds and loads the native addon: one that was built or copied beside this file, else the package that npm installed
// for this platform. It does so when something of it is first used: loaded, it has threads.

const fs = require('node:fs')
const { createRequire } = require('node:module')
const path = require('node:path')
const { AtsP2pError } = require('./lib/error')
const { name, repository, version } = require('./package.json')

/** The platforms that an addon is published for; `npm/` has a package for each. */
const PLATFORMS = [
  'darwin-arm64', 'darwin-x64', 'linux-arm64-gnu', 'linux-arm64-musl', 'linux-x64-gnu', 'linux-x64-musl',
  'win32-arm64-msvc', 'win32-x64-msvc'
]

// Where the program is bundled, this stays a `require` at run time: from where the bundle is.
const load = createRequire(__filename)

/** The platforms whose addon may fit this process, the likelier first. */
function fitting ({ platform, arch } = process) {
  if (platform === 'linux') return libcs().map(libc => `linux-${arch}-${libc}`)
  return [platform === 'win32' ? `win32-${arch}-msvc` : `${platform}-${arch}`]
}

/** The C library of this process, as the head of its program names its loader; both in doubt. */
function libcs () {
  const head = Buffer.alloc(4096)
  try {
    const program = fs.openSync('/proc/self/exe')
    try {
      fs.readSync(program, head, 0, head.length, 0)
    } finally {
      fs.closeSync(program)
    }
  } catch {
    return ['gnu', 'musl']
  }
  if (head.includes('/ld-musl-')) return ['musl']
  return head.includes('/ld-linux') ? ['gnu'] : ['gnu', 'musl']
}

function loadAddon () {
  const failures = []
  for (const platform of fitting()) {
    const file = path.join(__dirname, `ats-p2p.${platform}.node`)
    for (const [request, what] of [[file, file], [`ats-p2p-${platform}`, `the package ats-p2p-${platform}`]]) {
      try {
        return load(request)
      } catch (error) {
        failures.push({ platform, what, error })
      }
    }
  }
  throw missing(failures)
}

/** What was looked for, what came of it, and how to have an addon. */
function missing (failures) {
  const looked = failures.map(({ what, error }) => `- ${what}: ${isAbsent(error) ? 'not there' : firstLine(error)}`)
  const known = failures.find(({ platform }) => PLATFORMS.includes(platform))
  const hint = known
    ? `For this platform there is ats-p2p-${known.platform}; npm leaves it out with --omit=optional.`
    : `There are prebuilt ones for ${PLATFORMS.join(', ')}.`
  const isClone = fs.existsSync(path.join(__dirname, 'Cargo.toml'))
  const build = isClone ? 'npm run build' : `npm install ${repository.url}#v${version}`
  const message = `${name} ${version} has no addon that fits ${machine()}. Looked for:
${looked.join('\n')}
${hint} To build it from source, with Rust installed: ${build}`
  return new AtsP2pError(message, {
    code: 'ATS_P2P_NO_ADDON',
    cause: failures.map(({ error }) => error).find(error => !isAbsent(error))
  })
}

function machine () {
  const { glibcVersionRuntime: glibc } = process.report?.getReport?.().header ?? {}
  const libc = process.platform === 'linux' ? `, ${glibc ? `glibc ${glibc}` : libcs().join(' or ')}` : ''
  return `${process.platform} ${process.arch}${libc}, Node.js ${process.version}`
}

function isAbsent (error) {
  return error?.code === 'MODULE_NOT_FOUND'
}

function firstLine (error) {
  return String(error?.message ?? error).split('\n')[0]
}

let loaded

module.exports = new Proxy({}, {
  get: (_, name) => (loaded ??= loadAddon())[name]
})
