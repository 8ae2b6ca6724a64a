'use strict'

// Many files between the same two nodes: at once, small ones one after another, one at a time; and as one offer.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { randomFile, sha256 } = require('../session')
const { peers, transfer } = require('./transfer')

/** Bytes that the row of parallel transfers moves in all. */
const TOGETHER = 1_000_000_000

async function makeFiles (session, count, size) {
  const folder = session.newFolder('files', session.place(2 * count * size))
  const files = []
  for (let i = 0; i < count; i++) files.push(await randomFile(path.join(folder, `${i}.bin`), size))
  return { files, remove: () => fs.rmSync(folder, { recursive: true }) }
}

/** So many files of one size, so many at a time, between two nodes that have sent a first one. */
async function several (session, { count, size, parallel, runs = 1 }) {
  const { files, remove } = await makeFiles(session, count, size)
  const made = await peers(session, ['ours', 'ours'])
  try {
    const warm = await makeFiles(session, 1, 1000)
    await transfer(session, made, warm.files)
    const measured = []
    for (let run = 0; run < runs; run++) {
      const started = performance.now()
      const result = await transfer(session, made, files, { parallel })
      measured.push({ ...result, whole: (performance.now() - started) / 1000 })
    }
    return measured
  } finally {
    await made.stop()
    remove()
  }
}

const parallel = {
  id: 'parallel',
  async measure (session, { runs, quick }) {
    const total = quick ? TOGETHER / 10 : TOGETHER
    const measured = []
    for (const connections of [1, 10, 100]) {
      const results = await several(session, { count: connections, size: total / connections, parallel: connections, runs: Math.min(runs, 3) })
      measured.push({ connections, runs: results.map(({ bytes, seconds, cpu, peak }) => ({ bytes, seconds, cpu, peak })) })
    }
    return { total, connections: measured }
  }
}

const small = {
  id: 'small',
  async measure (session, { runs, quick }) {
    const count = quick ? 100 : 1000
    const results = await several(session, { count, size: 10_000, parallel: 8, runs: Math.min(runs, 3) })
    return { count, size: 10_000, parallel: 8, runs: results.map(({ seconds, cpu, took }) => ({ seconds, cpu, took: spread(took) })) }
  }
}

/** The small ones by one call, which offers them as one folder; `whole` is what that call takes. */
const together = {
  id: 'together',
  async measure (session, { runs, quick }) {
    const [count, size] = [quick ? 100 : 1000, 10_000]
    const { files, remove } = await makeFiles(session, count, size)
    const made = await peers(session, ['ours', 'ours'])
    const check = async ([{ filePath }]) => {
      for (const file of files) assert.equal(await sha256(path.join(filePath, path.basename(file.path))), file.hash, 'a copy differs')
    }
    try {
      const warm = await makeFiles(session, 1, 1000)
      await transfer(session, made, warm.files)
      const measured = []
      for (let run = 0; run < runs; run++) {
        const offer = { path: files.map(file => file.path), size: count * size }
        const { seconds, cpu, took: [whole] } = await transfer(session, made, [offer], { check })
        measured.push({ seconds, whole: whole / 1000, cpu })
      }
      return { count, size, runs: measured }
    } finally {
      await made.stop()
      remove()
    }
  }
}

const latency = {
  id: 'latency',
  async measure (session, { quick }) {
    const count = quick ? 50 : 300
    const [{ took }] = await several(session, { count, size: 1000, parallel: 1 })
    return { count, size: 1000, took: spread(took) }
  }
}

/** Milliseconds at some quantiles. */
function spread (took) {
  const sorted = [...took].sort((a, b) => a - b)
  const at = share => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), most: sorted.at(-1) }
}

module.exports = { latency, parallel, small, together }
