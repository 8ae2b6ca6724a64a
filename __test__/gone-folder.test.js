'use strict'

// A current folder that was removed: absolute paths work as ever, relative ones are told of.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { child, contents, hub, makeFile, node, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 60_000 }
const ROOT = path.join(__dirname, '..')

/** Runs a script in a folder that is gone by the time that it begins. */
function inGoneFolder (t, script, args, env = {}) {
  const gone = path.join(tempFolder(t), 'gone')
  fs.mkdirSync(gone)
  const removal = path.join(tempFolder(t), 'removal.js')
  fs.writeFileSync(removal, "const gone = process.cwd(); process.chdir(gone); require('node:fs').rmdirSync(gone)")
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('ATS_')))
  return child(t, ['--require', removal, script, ...args], { cwd: gone, env: { ...clean, ...env } })
}

// Windows keeps a folder that a process is in.
test('nodes and hubs work in a folder that is gone, with absolute paths', { ...LIMIT, skip: process.platform === 'win32' }, async (t) => {
  const folder = tempFolder(t)
  const script = path.join(folder, 'script.js')
  const { filePath } = makeFile(folder, 'x', 10)
  fs.writeFileSync(script, `
    const { createNode, startHub } = require(${JSON.stringify(ROOT)})
    const { join } = require('node:path')
    const [folder, filePath] = process.argv.slice(2)
    async function main () {
      const hub = await startHub({ listen: '127.0.0.1:0', data: join(folder, 'hub') })
      const a = await createNode({ atsUrl: hub.url, actorId: 'a', home: join(folder, 'a') })
      const b = await createNode({ atsUrl: hub.url, actorId: 'b', home: join(folder, 'b') })
      b.watch({ saveDir: join(folder, 'inbox') })
      await a.send({ filePath, recipientId: 'b' })
      const wrong = [
        () => a.send({ filePath: 'x', recipientId: 'b' }),
        () => createNode({ home: 'x' }),
        async () => b.watch({ saveDir: './x/' })
      ]
      for (const call of wrong) await call().catch(({ code, message }) => console.log(code, message))
      await Promise.all([a.destroy(), b.destroy()])
      await hub.close()
    }
    main()`)
  const { code, stdout, stderr } = await inGoneFolder(t, script, [folder, filePath]).ended
  assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
  const told = 'must be an absolute path, because the current folder is gone or closed (ENOENT), not'
  assert.deepEqual(stdout.split('\n'), [
    `ATS_P2P_INVALID_ARGUMENT send: filePath ${told} "x"`,
    `ATS_P2P_INVALID_ARGUMENT createNode: home ${told} "x"`,
    `ATS_P2P_INVALID_ARGUMENT watch: saveDir ${told} "./x/"`
  ])
  assert.deepEqual(contents(path.join(folder, 'inbox')), ['x'])
})

test('so do commands', { ...LIMIT, skip: process.platform === 'win32' }, async (t) => {
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const b = await node(t, url, 'b')
  b.watch({ saveDir: path.join(folder, 'inbox') })
  const env = { HOME: folder, ATS_P2P_HOME: path.join(folder, 'state') }
  const run = (...args) => inGoneFolder(t, path.join(ROOT, 'bin', 'ats-p2p.js'), [...args, '--ats-url', url], env).ended
  assert.equal((await run('send', filePath, '--to', 'b')).code, 0)
  const { code, stderr } = await run('send', 'x', '--to', 'b')
  assert.match(stderr, /must be an absolute path, because the current folder is gone/)
  assert.doesNotMatch(stderr, /uv_cwd|\n {4}at /)
  assert.equal(code, 2)
})
