'use strict'

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { hub, makeFile, node, tempFolder } = require('./fixtures/harness')
const { findPostgres, startPostgres } = require('./fixtures/postgres')

const LIMIT = { timeout: 60_000 }
const WITHOUT = findPostgres() ? false : 'PostgreSQL is not installed'

test('agents of two hubs on one PostgreSQL send each other files, whichever hub they know', { ...LIMIT, skip: WITHOUT }, async (t) => {
  const database = await startPostgres(t)
  const hubs = [await hub(t, { database }), await hub(t, { database })]
  const folder = tempFolder(t)
  const agents = []
  for (const [n, { url, bootstrap }] of hubs.entries()) {
    assert.equal(bootstrap.length, 4)
    const agent = await node(t, url, `agent-${n}`)
    agent.watch({ saveDir: path.join(folder, `of-${n}`) })
    agents.push(agent)
  }
  for (const [from, to] of [[0, 1], [1, 0]]) {
    const { filePath, bytes, hash } = makeFile(folder, `from-${from}`, 300_000)
    const sent = await agents[from].send({ filePath, recipientId: `agent-${to}` })
    assert.equal(sent.hash, hash)
    assert.deepEqual(fs.readFileSync(path.join(folder, `of-${to}`, `from-${from}`)), bytes)
  }
})
