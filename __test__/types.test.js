'use strict'

// The declarations: as compilers in use read them, against what the package is, and run for real.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const ts = require('typescript')
const ats = require('..')
const tables = require('../lib/options')
const { child, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }
const ROOT = path.join(__dirname, '..')
const DECLARATIONS = path.join(ROOT, 'index.d.ts')
const FOLDER = path.join(__dirname, 'types')

const STRICT = {
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  skipLibCheck: false,
  target: ts.ScriptTarget.ES2022,
  lib: ['lib.es2022.d.ts'],
  types: ['node'],
  typeRoots: [path.join(ROOT, 'node_modules', '@types')]
}

const { ModuleKind, ModuleResolutionKind } = ts
const RESOLUTIONS = {
  node16: { module: ModuleKind.Node16, moduleResolution: ModuleResolutionKind.Node16 },
  nodenext: { module: ModuleKind.NodeNext, moduleResolution: ModuleResolutionKind.NodeNext },
  bundler: { module: ModuleKind.ESNext, moduleResolution: ModuleResolutionKind.Bundler },
  node10: { module: ModuleKind.CommonJS, moduleResolution: ModuleResolutionKind.Node10 }
}

// What every compiler reads, and is not to be checked here, is read once.
const sources = new Map()

function compile (files, options) {
  const host = ts.createCompilerHost(options)
  const read = host.getSourceFile
  host.getSourceFile = (name, kind, ...more) => {
    if (!/[/\\](typescript|@types|undici-types)[/\\]/.test(name)) return read.call(host, name, kind, ...more)
    const key = `${name} ${kind.impliedNodeFormat ?? ''} ${typeof kind === 'object' ? JSON.stringify(kind.jsDocParsingMode ?? '') : kind}`
    if (!sources.has(key)) sources.set(key, read.call(host, name, kind, ...more))
    return sources.get(key)
  }
  return ts.createProgram(files, options, host)
}

/** What is wrong in the program's own files and in the declarations. All that they lead to is read by test:types. */
function problems (program) {
  const host = { getCanonicalFileName: name => name, getCurrentDirectory: () => ROOT, getNewLine: () => '\n' }
  const files = [...program.getRootFileNames(), DECLARATIONS].map(name => program.getSourceFile(name))
  const found = files.flatMap(file => [...program.getSyntacticDiagnostics(file), ...program.getSemanticDiagnostics(file)])
  return [...program.getOptionsDiagnostics(), ...found].map(problem => ts.formatDiagnostic(problem, host))
}

/** A project that has the package installed: what is in `types`, in a folder of its own. */
function project (t, extension = '.ts') {
  const folder = fs.realpathSync(tempFolder(t))
  fs.mkdirSync(path.join(folder, 'node_modules'))
  fs.symlinkSync(ROOT, path.join(folder, 'node_modules', 'ats-p2p'), 'junction')
  return ['api', 'program'].map((name) => {
    const file = path.join(folder, name + extension)
    const text = fs.readFileSync(path.join(FOLDER, `${name}.ts`), 'utf8')
    fs.writeFileSync(file, text.replace("from '../..'", "from 'ats-p2p'"))
    return file
  })
}

for (const [name, resolution] of Object.entries(RESOLUTIONS)) {
  test(`the declarations are read with moduleResolution ${name}`, LIMIT, (t) => {
    // As modules of both kinds, where the compiler knows of kinds.
    const files = (name === 'node16' ? ['.mts', '.cts'] : ['.ts']).flatMap(extension => project(t, extension))
    assert.deepEqual(problems(compile(files, { ...STRICT, ...resolution, noEmit: true })), [])
  })
}

/** What the declarations say: the exported names of values, and the properties of each exported type. */
function declared () {
  const program = compile([DECLARATIONS], { ...STRICT, ...RESOLUTIONS.node16, noEmit: true })
  const checker = program.getTypeChecker()
  const exported = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(DECLARATIONS)))
  const properties = type => checker.getPropertiesOfType(type).map(property => ({
    name: property.name,
    isOptional: (property.flags & ts.SymbolFlags.Optional) !== 0,
    isOwn: property.declarations?.some(({ parent }) => parent.getSourceFile().fileName.endsWith('/index.d.ts')) ?? true,
    type: checker.getTypeOfSymbol(property)
  })).filter(({ name, isOwn }) => isOwn && !name.startsWith('__@'))
  const types = new Map(exported.map((symbol) => {
    const isValue = (symbol.flags & ts.SymbolFlags.Value) !== 0
    const type = isValue && !(symbol.flags & ts.SymbolFlags.Class) ? checker.getTypeOfSymbol(symbol) : checker.getDeclaredTypeOfSymbol(symbol)
    return [symbol.name, { isValue, properties: properties(type), type }]
  }))
  return { checker, types, properties }
}

const names = properties => properties.map(({ name }) => name).sort()

test('the declarations name what the package has, and every option that a call takes', LIMIT, () => {
  const { types, properties } = declared()
  // Of one of several kinds of options, those of all.
  const options = type => [...new Set((type.isUnion() ? type.types : [type]).flatMap(kind => names(properties(kind))))].sort()
  const values = [...types].filter(([, { isValue }]) => isValue).map(([name]) => name)
  assert.deepEqual(values.sort(), Object.keys(ats).sort())
  for (const group of ['identity', 'peers', 'hubKeys']) {
    assert.deepEqual(names(types.get(group).properties), Object.keys(ats[group]).sort(), group)
  }
  const { HUB_DATA_OPTIONS, NODE_OPTIONS, ...others } = tables
  const inMemory = { stream: undefined, buffer: undefined, maxBytes: undefined }
  for (const [type, table] of Object.entries({
    NodeOptions: NODE_OPTIONS,
    SendOptions: others.SEND_OPTIONS,
    SendToAllOptions: { ...others.SEND_TO_ALL_OPTIONS, recipientId: undefined, idempotencyKey: undefined },
    WatchOptions: others.WATCH_OPTIONS,
    OffersOptions: others.OFFERS_OPTIONS,
    AcceptOptions: { ...others.ACCEPT_OPTIONS, ...inMemory, saveDir: undefined, existing: undefined },
    AcceptIntoOptions: { ...others.ACCEPT_OPTIONS, ...inMemory, overwrite: undefined },
    HubOptions: others.HUB_OPTIONS,
    HubDataOptions: HUB_DATA_OPTIONS,
    HubKeyOptions: { ...HUB_DATA_OPTIONS, ...others.GRANT_OPTIONS },
    JoinOptions: others.JOIN_OPTIONS,
    VerifyOptions: { ...NODE_OPTIONS, ...others.VERIFY_OPTIONS },
    DoctorOptions: { ...NODE_OPTIONS, ...others.CALL_OPTIONS, peer: true },
    CallOptions: others.CALL_OPTIONS,
    DhtOptions: others.DHT_OPTIONS
  })) {
    const known = Object.keys(table).filter(name => table[name] !== undefined).sort()
    assert.deepEqual(options(types.get(type).type), known, type)
  }
})

test('a program in TypeScript makes every call, and what it is given has the properties that are declared', LIMIT, async (t) => {
  const [, file] = project(t)
  const options = { ...STRICT, ...RESOLUTIONS.node10, target: ts.ScriptTarget.ES2022 }
  const program = compile([file], options)
  assert.deepEqual(problems(program), [])
  program.emit()
  const home = tempFolder(t)
  const env = Object.fromEntries(Object.entries({ ...process.env, HOME: home }).filter(([name]) => !name.startsWith('ATS_')))
  const { code, stdout, stderr } = await child(t, [file.replace('.ts', '.js')], { env }).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const { version, seen } = JSON.parse(stdout.split('\n').at(-1))
  assert.equal(version, ats.version)

  const { checker, types, properties } = declared()
  const events = new Map(types.get('NodeEvents').properties.map(({ name, type }) => [name, properties(checker.getTypeArguments(type)[0])]))
  for (const [name, keys] of Object.entries(seen)) {
    const wanted = events.get(name) ?? types.get(name)?.properties
    if (!wanted) continue
    const isDeclared = new Set(wanted.map(property => property.name))
    assert.deepEqual(keys.filter(key => !isDeclared.has(key) && !key.startsWith('_')), [], `${name} has more than is declared`)
    const missing = wanted.filter(({ name, isOptional }) => !isOptional && !keys.includes(name)).map(property => property.name)
    assert.deepEqual(missing, [], `${name} has less than is declared`)
  }
  const checked = Object.keys(seen).filter(name => events.has(name) || types.has(name))
  for (const name of ['AtsP2pNode', 'FileOffer', 'AcceptResult', 'SendResult', 'PeerConnection', 'RunningTransfer', 'TransferStatus',
    'Identity', 'Settings', 'Setting', 'ServiceHealth', 'Whoami', 'KnownPeer', 'HubKey', 'Joined', 'Hub', 'DhtNode', 'Waiting', 'Diagnosis', 'Finding', 'VerifiedReceipt', 'Signatory',
    'offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete', 'transfer_failed']) assert.ok(checked.includes(name), name)
})
