'use strict'

// Two agents in one process hand each other a file, over a hub of their own: nothing leaves this machine.
//
//   node examples/two-agents.js

const { mkdtemp, readFile, rm, writeFile } = require('node:fs/promises')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { createNode, startHub } = require('ats-p2p')

async function main () {
  const folder = await mkdtemp(join(tmpdir(), 'two-agents-'))
  const hub = await startHub({ listen: '127.0.0.1:0', data: join(folder, 'hub') })
  const anna = await createNode({ atsUrl: hub.url, actorId: 'anna', home: join(folder, 'anna') })
  const ben = await createNode({ atsUrl: hub.url, actorId: 'ben', home: join(folder, 'ben') })
  try {
    const report = join(folder, 'report.txt')
    await writeFile(report, 'All is well.\n')

    ben.watch({ saveDir: join(folder, 'inbox') })
    const saved = new Promise(resolve => ben.once('transfer_complete', ({ filePath }) => resolve(filePath)))

    const { hash, size } = await anna.send({ filePath: report, recipientId: 'ben' })
    console.log(`anna sent ${size} bytes, SHA-256 ${hash}`)
    console.log(`ben has: ${(await readFile(await saved, 'utf8')).trim()}`)
  } finally {
    await Promise.all([anna.destroy(), ben.destroy()])
    await hub.close()
    await rm(folder, { recursive: true })
  }
}

main()
