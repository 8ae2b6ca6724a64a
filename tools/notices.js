'use strict'

// Writes THIRD-PARTY-NOTICES.txt: whose code is compiled into the addon, and under which licenses. It goes into each
// package that is published; a clone has it by `npm run notices`.

const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')

const ROOT = path.join(__dirname, '..')
const TARGET = path.join(ROOT, 'THIRD-PARTY-NOTICES.txt')
const LICENSE_FILE = /^(licen[sc]e|copying|copyright|notice|unlicense)/i

/** The crates that the addon is made of, on any platform, by name and version. */
function crates () {
  const { packages, resolve } = JSON.parse(execFileSync('cargo', ['metadata', '--format-version', '1', '--locked', '--features', 'ats-p2p/binding'], { cwd: ROOT, maxBuffer: 2 ** 28, stdio: ['ignore', 'pipe', 'inherit'] }))
  const byId = new Map(packages.map(one => [one.id, one]))
  const nodes = new Map(resolve.nodes.map(node => [node.id, node]))
  const reached = new Set()
  const visit = (id) => {
    if (reached.has(id)) return
    reached.add(id)
    // A build script's crates and a test's are in nothing that is shipped.
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) if (kinds.some(({ kind }) => kind === null)) visit(pkg)
  }
  visit(packages.find(one => one.name === 'ats-p2p' && one.source === null).id)
  return [...reached].map(id => byId.get(id)).filter(one => one.source !== null).sort((a, b) => a.name.localeCompare(b.name) || a.version.localeCompare(b.version))
}

/** The texts of a crate's licenses, as it has them. */
function texts ({ manifest_path: manifest, license_file: named }) {
  const folder = path.dirname(manifest)
  const files = fs.readdirSync(folder).filter(name => LICENSE_FILE.test(name) && fs.statSync(path.join(folder, name)).isFile())
  if (named && !files.includes(named) && fs.existsSync(path.join(folder, named))) files.push(named)
  return files.sort().map(name => fs.readFileSync(path.join(folder, name), 'utf8').replaceAll('\r\n', '\n').trim())
}

/** Each text once, with the crates that have it. */
function notices (all) {
  const holders = new Map()
  const without = []
  for (const crate of all) {
    const own = texts(crate)
    if (own.length === 0) without.push(crate)
    for (const text of own) holders.set(text, [...holders.get(text) ?? [], `${crate.name} ${crate.version}`])
  }
  const list = all.map(({ name, version, license, repository }) => `${name} ${version}: ${license ?? 'see its text'}${repository ? `, ${repository}` : ''}`)
  const sections = [...holders].map(([text, names]) => `${'='.repeat(80)}\n${names.join(', ')}\n${'-'.repeat(80)}\n${text}`)
  const rest = without.length > 0 ? `\nThese come without a text of their own; the expression above names their license:\n${without.map(({ name, version }) => `${name} ${version}`).join('\n')}\n` : ''
  return `The native part of ats-p2p holds code of these crates, each under the license that it names.\n\n${list.join('\n')}\n${rest}\n${sections.join('\n\n')}\n`
}

const all = crates()
fs.writeFileSync(TARGET, notices(all))
process.stdout.write(`${path.relative(process.cwd(), TARGET)}: ${all.length} crates\n`)
