#!/usr/bin/env node
// Lays out what is published: the package itself, without a compiler's tools and with the packages of all platforms
// as optional dependencies, and for each platform that has an addon its package.
//
//   node tools/pack.js OUT [--addons DIR] [--repository URL] [--all]
//
// `OUT/ats-p2p` and `OUT/ats-p2p-PLATFORM` are ready for `npm publish` then; their names are printed, the package
// itself last. The addons are looked for in DIR, or else in the repository. `--all` refuses to go on without one for
// each platform. `--repository` says where this is built, where that is not what package.json says.
//
// The package.json of the repository names no optional dependencies: those of the next version are not published when
// it is worked on, and `npm ci` would refuse its lock file.
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')

const ROOT = path.join(__dirname, '..')
/** Whose code is in the addons: see tools/notices.js. */
const NOTICES = path.join(ROOT, 'THIRD-PARTY-NOTICES.txt')
const PLATFORMS = fs.readdirSync(path.join(ROOT, 'npm')).sort()
/** What only those need who build the package. */
const UNPUBLISHED = ['scripts', 'devDependencies', 'napi']

/** Fills `out` with a folder for each package, and returns these: those of platforms first, the package itself last. */
function layOut (out, { addons = ROOT, repository, all = false } = {}) {
  const manifest = readManifest(ROOT)
  const url = repository ?? manifest.repository.url
  const found = PLATFORMS.filter(platform => fs.existsSync(path.join(addons, addonOf(platform))))
  const missing = PLATFORMS.filter(platform => !found.includes(platform))
  if (all && missing.length > 0) throw new Error(`no addon for ${missing.join(', ')} in ${addons}`)
  if (all && !fs.existsSync(NOTICES)) throw new Error('no THIRD-PARTY-NOTICES.txt: npm run notices')
  if (found.length === 0) throw new Error(`no addon in ${addons}: npm run build`)
  return [
    ...found.map(platform => layOutPlatform(out, platform, addons, manifest.version, url)),
    layOutPackage(out, manifest, url)
  ]
}

function layOutPlatform (out, platform, addons, version, url) {
  const from = path.join(ROOT, 'npm', platform)
  const addon = path.join(addons, addonOf(platform))
  const built = builtFor(fs.readFileSync(addon))
  if (built !== platform.split('-').slice(0, 2).join('-')) throw new Error(`${addon} is built for ${built}`)
  const folder = empty(out, `ats-p2p-${platform}`)
  const manifest = readManifest(from)
  writeManifest(folder, { ...manifest, version, repository: { ...manifest.repository, url } })
  fs.copyFileSync(path.join(from, 'README.md'), path.join(folder, 'README.md'))
  fs.copyFileSync(path.join(ROOT, 'LICENSE'), path.join(folder, 'LICENSE'))
  fs.copyFileSync(addon, path.join(folder, addonOf(platform)))
  if (fs.existsSync(NOTICES)) fs.copyFileSync(NOTICES, path.join(folder, path.basename(NOTICES)))
  return folder
}

function layOutPackage (out, manifest, url) {
  const folder = empty(out, manifest.name)
  const published = Object.fromEntries(Object.entries(manifest).filter(([field]) => !UNPUBLISHED.includes(field)))
  const files = manifest.files.filter(file => !file.endsWith('.node'))
  for (const file of ['README.md', 'LICENSE', ...files.filter(file => !file.startsWith('!'))]) {
    fs.cpSync(path.join(ROOT, file), path.join(folder, file), { recursive: true })
  }
  writeManifest(folder, {
    ...published,
    files,
    repository: { ...manifest.repository, url },
    optionalDependencies: Object.fromEntries(PLATFORMS.map(platform => [`ats-p2p-${platform}`, manifest.version]))
  })
  return folder
}

/** What a shared library is built for, by its head: `linux-x64`, …, or `unknown`. */
function builtFor (bytes) {
  const machines = { 0x3e: 'x64', 0xb7: 'arm64', 0x01000007: 'x64', 0x0100000c: 'arm64', 0x8664: 'x64', 0xaa64: 'arm64' }
  const named = (system, machine) => `${system}-${machines[machine] ?? machine}`
  if (bytes.readUInt32BE(0) === 0x7f454c46) return named('linux', bytes.readUInt16LE(18))
  if (bytes.readUInt32LE(0) === 0xfeedfacf) return named('darwin', bytes.readUInt32LE(4))
  if (bytes.readUInt16BE(0) === 0x4d5a) return named('win32', bytes.readUInt16LE(bytes.readUInt32LE(0x3c) + 4))
  return 'unknown'
}

function addonOf (platform) {
  return `ats-p2p.${platform}.node`
}

function empty (out, name) {
  const folder = path.join(out, name)
  fs.rmSync(folder, { recursive: true, force: true })
  fs.mkdirSync(folder, { recursive: true })
  return folder
}

function readManifest (folder) {
  return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'))
}

function writeManifest (folder, manifest) {
  fs.writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)
}

if (require.main === module) {
  const { values, positionals: [out] } = parseArgs({
    allowPositionals: true,
    options: { addons: { type: 'string' }, repository: { type: 'string' }, all: { type: 'boolean' } }
  })
  if (out === undefined) throw new Error('node tools/pack.js OUT [--addons DIR] [--repository URL] [--all]')
  for (const folder of layOut(out, values)) console.log(folder)
}

module.exports = { PLATFORMS, layOut }
