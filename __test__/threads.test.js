'use strict'

// Threads that load the addon and end, the first to load it among them: what is left must serve those that come later.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const path = require('node:path')
const { child, tempFolder } = require('./fixtures/harness')

const LIMIT = { timeout: 120_000 }
/** Rounds of threads: a new thread often gets the memory of one that has ended. */
const ROUNDS = 6

const PROGRAM = `
  const { once } = require('node:events')
  const { Worker } = require('node:worker_threads')
  const [, index, home] = process.argv
  const make = \`
    const { workerData: { index, home } } = require('node:worker_threads')
    const { createNode, startHub } = require(index)
    async function run () {
      const hub = await startHub({ listen: '127.0.0.1:0', data: home + '/hub' })
      const node = await createNode({ atsUrl: hub.url, home })
      await node.destroy()
      await hub.close()
    }
    run()\`
  async function main () {
    for (let round = 0; round < ${ROUNDS}; round++) {
      const worker = new Worker(make, { eval: true, workerData: { index, home: home + '/' + round } })
      const [code] = await once(worker, 'exit')
      if (code !== 0) throw new Error('a worker ended with ' + code)
    }
    await require(index).createNode({ home }).then(node => node.destroy())
    console.log('done')
  }
  main()`

test('threads that load the addon and end leave it whole for the others', LIMIT, async (t) => {
  const index = path.join(__dirname, '..')
  const { code, signal, stdout, stderr } = await child(t, ['-e', PROGRAM, index, tempFolder(t)]).ended
  assert.deepEqual({ code, signal, stdout }, { code: 0, signal: null, stdout: 'done' }, stderr)
})
