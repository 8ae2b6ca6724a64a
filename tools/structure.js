#!/usr/bin/env node
// Checks the structure of the Rust crates: no import circle between the files of a crate, no type name that is defined
// twice in a crate, no line over 110 columns. Prints what it finds, and then ends with status 1.
//
//   node tools/structure.js              checks the crates that are held to it
//   node tools/structure.js crates/udx   checks the crates in these folders
//
// It reads the sources as text. Code under `#[cfg(test)]` does not count, nor do imports between a module and the
// modules below it. An import counts towards the file that defines the name, not towards those that re-export it.
'use strict'
const fs = require('node:fs')
const path = require('node:path')

/** The crates that are held to it: `.` is the package at the top. */
const HELD = [
  '.', 'benches/limit', 'crates/hub', 'crates/hyperdht', 'crates/hyperswarm', 'crates/protocol', 'crates/secret-stream',
  'crates/udx'
]
const COLUMNS = 110

/** A comment, a raw string, a string, or a character. */
const TOKEN = /\/\/.*|\/\*[^]*?\*\/|\b[bc]?r(#*)"[^]*?"\1|(?:\b[bc])?"(?:\\[^]|[^"\\])*"|'(?:\\.[^']*|[^\\'\n])'/g

const found = (process.argv.length > 2 ? process.argv.slice(2) : HELD.map(inRepository)).flatMap(check)
for (const line of found) console.log(line)
process.exitCode = found.length ? 1 : 0

function inRepository (folder) {
  return path.relative('', path.join(__dirname, '..', folder)) || '.'
}

function check (crate) {
  const files = rustFiles(crate)
  if (!files.length) throw new Error(`${crate}: no Rust file there`)
  const roots = ['src/lib.rs', 'src/main.rs'].map(file => path.join(crate, file)).filter(file => files.includes(file))
  const crates = roots.map(readModules)
  return [
    ...crates.flatMap(modules => circles(arrows(modules))),
    ...crates.flatMap(repeatedTypes),
    ...files.flatMap(longLines)
  ]
}

/** All .rs files of a package, without those of packages inside it. */
function rustFiles (folder) {
  return fs.readdirSync(folder, { withFileTypes: true }).flatMap(entry => {
    const name = path.join(folder, entry.name)
    if (entry.isFile()) return name.endsWith('.rs') ? [name] : []
    const isOther = ['target', 'node_modules'].includes(entry.name) || entry.name.startsWith('.')
    return isOther || !entry.isDirectory() || fs.existsSync(path.join(name, 'Cargo.toml')) ? [] : rustFiles(name)
  })
}

function longLines (file) {
  const lines = fs.readFileSync(file, 'utf8').split('\n').map(line => [...line].length)
  return lines.flatMap((length, i) => length > COLUMNS ? [`${file}:${i + 1}: ${length} columns`] : [])
}

/**
 * The modules of a crate: of each its file, the `dir` of the files of its children, the `cfg` it is under, the `names`
 * of its items, the types among them, and its paths: `imports` by name, `globs`, and all `paths`.
 */
function readModules (root) {
  const modules = []
  const add = (file, dir, parent, text, cfg) => {
    const module = { file, dir, parent, cfg, children: new Map(), names: new Set(), types: [] }
    modules.push(module)
    let rest = text
    for (const { name, attributes, body } of moduleItems(text)) {
      const cfg = /#\[cfg\((.*)\)\]/.exec(attributes)?.[1] ?? module.cfg
      const below = path.join(dir, name)
      if (body !== undefined) {
        module.children.set(name, add(file, below, module, body, cfg))
        rest = rest.replace(`{${body}}`, '{}')
        continue
      }
      const named = /#\[path = "(.*?)"\]/.exec(attributes)?.[1]
      const files = named ? [path.join(path.dirname(file), named)] : [`${below}.rs`, path.join(below, 'mod.rs')]
      const source = files.find(file => fs.existsSync(file))
      if (!source) throw new Error(`${file}: no file for the module ${name}`)
      module.children.set(name, add(source, below, module, withoutTests(source), cfg))
    }
    readItems(module, rest)
    return module
  }
  add(root, path.dirname(root), null, withoutTests(root))
  return modules
}

/** The source of a file without comments, strings and what is compiled for tests only. */
function withoutTests (file) {
  const raw = fs.readFileSync(file, 'utf8')
  let text = raw.replace(TOKEN, (token, _, at) => {
    if (token.startsWith('/')) return ''
    return /#\[(path|cfg\(.*) = $/.test(raw.slice(raw.lastIndexOf('\n', at) + 1, at)) ? token : '""'
  })
  for (let at; (at = text.search(/#\[cfg\((?:all\((?:[^\]]*,\s*)?)?test\b/)) >= 0;) {
    text = text.slice(0, at) + text.slice(endOfItem(text, at))
  }
  return text
}

/** Where the item ends whose attributes begin at `at`: after its `;`, or after its block. */
function endOfItem (text, at) {
  // What is in brackets is an attribute, or the length of an array.
  const [head] = /^(?:\[[^\]]*\]|[^;{])*/.exec(text.slice(at))
  const stop = at + head.length
  if (text[stop] === '{' && !/\buse\s/.test(head)) return endOfBlock(text, stop)
  const end = text.indexOf(';', stop)
  return end < 0 ? text.length : end + 1
}

function endOfBlock (text, at) {
  for (let depth = 0; at < text.length; at++) {
    if (text[at] === '{') depth++
    if (text[at] === '}' && --depth === 0) return at + 1
  }
  return at
}

function moduleItems (text) {
  const item = /((?:#\[[^\n]*\]\s*)*)(?:pub(?:\([^)]*\))?\s+)?\bmod\s+(\w+)\s*([;{])/g
  return [...outermost(text).matchAll(item)].map(match => {
    const open = match.index + match[0].length - 1
    const body = match[3] === '{' ? text.slice(open + 1, endOfBlock(text, open) - 1) : undefined
    return { name: match[2], attributes: match[1], body }
  })
}

/** The text with blanks for what is in braces. */
function outermost (text) {
  let depth = 0
  return text.replace(/[^]/g, char => {
    if (char === '}') depth--
    const shown = depth > 0 && char !== '\n' ? ' ' : char
    if (char === '{') depth++
    return shown
  })
}

function readItems (module, text) {
  module.imports = new Map()
  module.globs = []
  module.paths = []
  const code = text.replace(/\bpub\s*\([^)]*\)/g, 'pub').replace(/\buse\s+([^;]+);/g, (_, tree) => {
    for (const { segments, name } of flatten(tree.replace(/\s+/g, ' '))) {
      if (name === '*') module.globs.push(segments)
      else module.imports.set(name, segments)
      module.paths.push(segments)
    }
    return ''
  })
  for (const match of code.matchAll(/(?:\b\w+::)+\w+/g)) module.paths.push(match[0].split('::'))
  const items = /((?:#\[[^\n]*\]\s*)*)[\w\s]*\b(struct|enum|union|trait|type|fn|const|static)\s+(?:mut\s+)?(\w+)/g
  for (const [, attributes, kind, name] of outermost(code).matchAll(items)) {
    module.names.add(name)
    const cfg = /#\[cfg\((.*)\)\]/.exec(attributes)?.[1] ?? module.cfg
    if (!['fn', 'const', 'static'].includes(kind)) module.types.push({ name, cfg })
  }
}

/** The paths of a `use` tree, each with the name that it brings. */
function flatten (tree, before = []) {
  const [, head, inner] = /^\s*((?:\w+\s*::\s*)*)([^]*?)\s*$/.exec(tree)
  const segments = [...before, ...head.split('::').map(part => part.trim()).filter(Boolean)]
  if (inner.startsWith('{')) return splitList(inner.slice(1, -1)).flatMap(part => flatten(part, segments))
  const [last, alias] = inner.split(/ as /).map(part => part.trim())
  if (last === '*') return [{ segments, name: '*' }]
  if (last === 'self') return [{ segments, name: alias ?? segments.at(-1) }]
  return last ? [{ segments: [...segments, last], name: alias ?? last }] : []
}

function splitList (list) {
  let depth = 0
  const parts = ['']
  for (const char of list) {
    if (char === '{') depth++
    if (char === '}') depth--
    if (char === ',' && depth === 0) parts.push('')
    else parts[parts.length - 1] += char
  }
  return parts.filter(part => part.trim())
}

/** What a path means in a module: `{module}`, or `{module, name}` for an item that is defined there. */
function resolve (from, segments, seen = new Set()) {
  const key = `${from.dir} ${segments.join('::')}`
  if (seen.has(key)) return undefined
  seen = new Set(seen).add(key)
  let [first, ...rest] = segments
  let module = from
  if (first === 'crate') while (module.parent) module = module.parent
  else if (first === 'super') module = from.parent ?? from
  else if (first !== 'self') rest = segments
  while (rest[0] === 'super') { module = module.parent ?? module; rest.shift() }
  for (let i = 0; i < rest.length; i++) {
    const name = rest[i]
    const isLast = i === rest.length - 1
    if (module.names.has(name) && (isLast || !module.children.has(name))) return { module, name }
    if (module.children.has(name)) { module = module.children.get(name); continue }
    const imported = module.imports.get(name)
    const globs = module.globs.map(glob => [...glob, name])
    const candidates = imported ? [imported] : globs
    const target = candidates.map(candidate => resolve(module, candidate, seen)).find(Boolean)
    if (!target || target.name) return target
    module = target.module
  }
  return { module }
}

/** Of each file, the files that it imports from, and the names: `Map<file, Map<file, Set<name>>>`. */
function arrows (modules) {
  const isWithin = (module, file) => module !== null && (module.file === file || isWithin(module.parent, file))
  const all = new Map()
  const draw = (from, to, name) => {
    if (isWithin(from, to.file) || isWithin(to, from.file)) return
    if (!all.has(from.file)) all.set(from.file, new Map())
    const names = all.get(from.file)
    names.set(to.file, (names.get(to.file) ?? new Set()).add(name))
  }
  for (const module of modules) {
    for (const segments of module.paths) {
      const target = resolve(module, segments)
      if (target?.name) draw(module, target.module, target.name)
    }
    for (const glob of module.globs) {
      const target = resolve(module, glob)
      if (target && !target.name) draw(module, target.module, '*')
    }
  }
  return all
}

function circles (arrows) {
  const reach = new Map([...arrows.keys()].map(file => [file, reachable(arrows, file)]))
  const inCircle = [...reach.keys()].filter(file => reach.get(file).has(file)).sort()
  const groups = new Set(inCircle.map(file => inCircle.filter(other =>
    reach.get(file).has(other) && reach.get(other).has(file)).join('\n')))
  return [...groups].map(group => {
    const files = group.split('\n')
    const ties = files.flatMap(from => [...arrows.get(from)].filter(([to]) => files.includes(to))
      .map(([to, names]) => `  ${from} -> ${to}: ${[...names].join(', ')}`))
    return [`import circle of ${files.length} files:`, ...ties].join('\n')
  })
}

function reachable (arrows, file) {
  const seen = new Set()
  const visit = from => {
    for (const to of arrows.get(from)?.keys() ?? []) if (!seen.has(to)) { seen.add(to); visit(to) }
  }
  visit(file)
  return seen
}

/** Type names that are defined twice. Types that are compiled for different systems may share one. */
function repeatedTypes (modules) {
  const places = new Map()
  for (const module of modules) {
    for (const { name, cfg } of module.types) {
      places.set(name, [...places.get(name) ?? [], { file: module.file, cfg }])
    }
  }
  return [...places].flatMap(([name, all]) => {
    const conditions = new Set(all.map(place => place.cfg))
    if (all.length === 1 || (conditions.size === all.length && !conditions.has(undefined))) return []
    return [`type ${name} is defined ${all.length} times: ${all.map(place => place.file).join(', ')}`]
  })
}
