'use strict'

// The programs in examples/ do what their first lines say, against a hub, in processes of their own.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const { execFileSync, spawn } = require('node:child_process')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const readline = require('node:readline')
const { child, defer, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const EXAMPLES = path.join(__dirname, '..', 'examples')
const PROGRAM = path.join(__dirname, '..', 'bin', 'ats-p2p.js')
const PYTHON = hasPython()

test('two-agents.js', { timeout: 60_000 }, async (t) => {
  const { code, lines } = await run(t, 'two-agents.js').ended
  assert.equal(code, 0, lines.join('\n'))
  assert.match(lines.join('\n'), /^anna sent 13 bytes, SHA-256 [0-9a-f]{64}\nben has: All is well\.$/)
})

test('send.js and decide.js: what is wanted arrives, and what is not is declined', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const wanted = makeFile(folder, 'table.csv', 50_000)
  const other = makeFile(folder, 'setup.exe', 1000)
  const me = { ATS_URL: url, ATS_ACTOR_ID: 'me', ATS_P2P_HOME: path.join(folder, 'state') }
  const reader = run(t, 'decide.js', ['inbox'], { ATS_URL: url, ATS_ACTOR_ID: 'reader' })
  await reader.line(/^waiting as reader$/)

  const sent = await run(t, 'send.js', [wanted.filePath, 'reader'], me).ended
  assert.equal(sent.code, 0, sent.stderr)
  assert.match(sent.lines.at(-1), new RegExp(`^delivered \\(\\w+\\), SHA-256 ${wanted.hash}$`))
  await reader.line(/^table\.csv from me: /)
  assert.deepEqual(fs.readFileSync(path.join(reader.cwd, 'inbox', 'table.csv')), wanted.bytes)

  const declined = await run(t, 'send.js', [other.filePath, 'reader'], me).ended
  assert.equal(declined.code, 1)
  assert.match(declined.stderr, /reader does not want it: .*only \.csv, \.json, \.txt/)
  reader.kill('SIGTERM')
  assert.equal((await reader.ended).code, 0)
})

test('inbox.js ends after as many files as wanted', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const files = ['one', 'two'].map(name => makeFile(tempFolder(t), name, 1000))
  const sender = await node(t, url, 'sender')
  const collector = run(t, 'inbox.js', ['2'], { ATS_URL: url, ATS_ACTOR_ID: 'collector' })
  await Promise.all(files.map(({ filePath }) => sender.send({ filePath, recipientId: 'collector' })))
  const { code, lines } = await collector.ended
  assert.equal(code, 0)
  assert.deepEqual(lines.map(line => line.split(' ').at(-1)).sort(), files.map(({ hash }) => hash).sort())
})

test('receive.py and send.py', { timeout: 60_000, skip: PYTHON ? false : 'there is no python3 here' }, async (t) => {
  const { url } = await hub(t)
  const file = makeFile(tempFolder(t), 'table.csv', 50_000)
  const receiver = run(t, 'receive.py', ['inbox'], { ATS_URL: url })
  await receiver.line(/^waiting as python$/)
  const sender = await node(t, url, 'sender')
  await sender.send({ filePath: file.filePath, recipientId: 'python' })
  const { lines } = await receiver.ended
  assert.equal(lines.at(-1), `${path.join(receiver.cwd, 'inbox', 'table.csv')} from sender: ${file.hash}`)

  const recipient = await node(t, url, 'reader')
  recipient.watch({ saveDir: path.join(tempFolder(t), 'in') })
  await once(recipient, 'connected')
  const sent = await run(t, 'send.py', [file.filePath, 'reader'], { ATS_URL: url }).ended
  assert.equal(sent.code, 0, sent.stderr)
  assert.equal(sent.lines.at(-1), `delivered, SHA-256 ${file.hash}`)
  const missing = await run(t, 'send.py', ['nothing.csv', 'reader'], { ATS_URL: url }).ended
  assert.equal(missing.code, 3)
  assert.match(missing.lines.at(-1), /^exit code 3: .*nothing\.csv/)
})

test('what the README shows: one sends, another decides, and a third takes everything', { timeout: 60_000 }, async (t) => {
  const { url } = await hub(t)
  const text = fs.readFileSync(path.join(__dirname, '..', 'README.md'), 'utf8')
  const [, block] = /```js\n(const \{ createNode \}[\s\S]*?)```/.exec(text)
  const [, sending, deciding, taking] = block.split(/\n\/\/ (?:one agent|the other: .*|…or .*)\n/)
  const [making] = deciding.split('\n')
  const folder = tempFolder(t)
  fs.mkdirSync(path.join(folder, 'node_modules'))
  fs.symlinkSync(path.join(__dirname, '..'), path.join(folder, 'node_modules', 'ats-p2p'), 'junction')
  const program = (name, ...parts) => {
    const file = path.join(folder, `${name}.mjs`)
    fs.writeFileSync(file, ["import { createNode } from 'ats-p2p'", ...parts].join('\n').replace('/srv/inbox', './inbox'))
    const env = { PATH: process.env.PATH, HOME: folder, ATS_URL: url }
    return child(t, [file], { cwd: folder, env })
  }
  for (const [name, parts, inbox] of [['decides', [deciding], 'inbox'], ['takes', [making, taking], 'incoming']]) {
    const receiver = program(name, ...parts)
    const { bytes, hash } = makeFile(folder, 'report.pdf', 100_000)
    const { code, stdout, stderr } = await program('sends', sending, 'console.log(hash)').ended
    assert.equal(code, 0, stderr)
    assert.match(stdout, new RegExp(`^(\\d+ of 100000\n)+${hash}$`))
    assert.deepEqual(fs.readFileSync(path.join(folder, inbox, 'report.pdf')), bytes)
    receiver.kill('SIGTERM')
    await receiver.ended
  }
})

/** An example in a folder of its own; `line(pattern)` waits for a line, `ended` has the exit code and all lines. */
function run (t, name, args = [], env = {}) {
  const cwd = tempFolder(t)
  const command = name.endsWith('.py') ? 'python3' : process.execPath
  const clean = Object.fromEntries(Object.entries(process.env).filter(([key]) => !key.startsWith('ATS_')))
  const child = spawn(command, [path.join(EXAMPLES, name), ...args], {
    cwd,
    env: { ...clean, HOME: cwd, ATS_P2P_HOME: path.join(cwd, 'state'), ATS_P2P: `"${process.execPath}" "${PROGRAM}"`, ...env },
    stdio: ['ignore', 'pipe', 'pipe']
  })
  defer(t, () => { child.kill('SIGKILL') })
  const lines = []
  let stderr = ''
  let told = () => {}
  child.stderr.setEncoding('utf8').on('data', (text) => { stderr += text })
  readline.createInterface({ input: child.stdout }).on('line', (line) => { lines.push(line); told() })
  const ended = once(child, 'close').then(([code]) => ({ code, lines, stderr }))
  const line = pattern => new Promise((resolve, reject) => {
    told = () => { if (lines.some(line => pattern.test(line))) resolve() }
    ended.then(() => reject(new Error(`${name} ended without ${pattern}: ${lines.join('\n')}\n${stderr}`)))
    told()
  })
  return { cwd, ended, line, kill: signal => child.kill(signal) }
}

function hasPython () {
  try {
    execFileSync('python3', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
