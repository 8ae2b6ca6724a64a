'use strict'

// One large file in memory, in each pairing of this package and a JavaScript peer; how many system calls that
// takes; and what becomes of cost and memory as files grow.

const { spawnSync } = require('node:child_process')
const { MIB, installed } = require('../session')
const { freshTransfer, peers, transfer } = require('./transfer')

const PAIRS = [['ours', 'ours'], ['ours', 'js'], ['js', 'ours'], ['js', 'js']]

const pairs = PAIRS.map(pair => ({
  id: pair.join('-'),
  async measure (session, { runs, size }) {
    const file = await session.file(size)
    const measured = []
    for (let run = 0; run < runs; run++) measured.push(await freshTransfer(session, pair, [file]))
    return { size, runs: measured }
  }
}))

/** The same by the tunnel of the hub, whose process is a third one on the same cores. */
const tunnel = {
  id: 'tunnel',
  async measure (session, { runs, size }) {
    const file = await session.file(size)
    // No UDP packet is answered there.
    const end = { env: { ATS_P2P_BOOTSTRAP: '127.0.0.1:9' } }
    const measured = []
    for (let run = 0; run < runs; run++) {
      measured.push(await freshTransfer(session, ['ours', 'ours'], [file], { place: { sender: end, receiver: end } }))
    }
    return { size, runs: measured }
  }
}

const syscalls = {
  id: 'syscalls',
  async measure (session, { quick }) {
    const count = counter()
    if (!count) return { missing: 'needs perf (Debian: apt-get install linux-perf) or strace (apt-get install strace), and the right to use it' }
    const size = (quick ? 64 : 256) * MIB
    const file = await session.file(size)
    const measured = { size, means: count.means }
    for (const pair of [['ours', 'ours'], ['js', 'js']]) {
      const made = await peers(session, pair)
      try {
        const counts = [await count.start(session, made.from.pid), await count.start(session, made.to.pid)]
        await transfer(session, made, [file])
        measured[pair.join('-')] = { sender: await counts[0].stop(), receiver: await counts[1].stop() }
      } finally {
        await made.stop()
      }
    }
    return measured
  }
}

/** How system calls of a running process can be counted here. perf does not slow what it counts; strace does. */
function counter () {
  const perf = ['stat', '-x', ',', '-e', 'raw_syscalls:sys_enter']
  if (installed('perf') && spawnSync('perf', [...perf, 'true']).status === 0) {
    return { means: 'perf stat', start: (session, pid) => counting(session, 'perf', [...perf, '-p', pid], /^(\d+),,raw_syscalls/m) }
  }
  if (installed('strace') && spawnSync('strace', ['-c', 'true']).status === 0) {
    return { means: 'strace -c', start: (session, pid) => counting(session, 'strace', ['-c', '-f', '-p', pid], /^100\.00\s+\S+\s+(?:\S+\s+)?(\d+).* total$/m) }
  }
}

async function counting (session, command, args, pattern) {
  const program = session.run(command, args.map(String))
  // Neither says when it has begun.
  if (command === 'strace') await program.line(/attached/)
  else await new Promise(resolve => setTimeout(resolve, 300))
  return {
    async stop () {
      await program.stop('SIGINT')
      const { output } = await program.ended
      const found = pattern.exec(output)
      if (!found) throw new Error(`${command} counted nothing: ${output}`)
      return Number(found[1])
    }
  }
}

/** Bytes of all files of a size in the row that compares sizes, so that the small ones can be measured at all. */
const ENOUGH = 64 * MIB

const growth = {
  id: 'growth',
  async measure (session, { quick }) {
    const sizes = []
    for (const size of (quick ? [1, 16, 64] : [1, 16, 256, 1024, 8192]).map(n => n * MIB)) {
      const file = await session.file(size)
      const made = await peers(session, ['ours', 'ours'])
      try {
        const repeats = Math.max(1, Math.ceil(ENOUGH / size))
        const runs = []
        for (let run = 0; run < repeats; run++) {
          const { seconds, connected, cpu, peak } = await transfer(session, made, [file])
          runs.push({ seconds, connected, cpu, peak })
        }
        sizes.push({ size, folder: file.folder, runs })
      } finally {
        await made.stop()
      }
      session.release(size)
    }
    return { sizes }
  }
}

module.exports = { growth, pairs, syscalls, tunnel }
