'use strict'

// One file to several recipients: by one call, and by as many calls one after another.

const fs = require('node:fs')
const path = require('node:path')
const { median } = require('../figures')
const { sha256 } = require('../session')

const RECIPIENTS = 10

const recipients = {
  id: 'recipients',
  async measure (session, { runs, quick }) {
    const size = quick ? 20_000_000 : 200_000_000
    const folder = session.place((RECIPIENTS + 1) * size)
    const file = await session.file(size)
    const hub = await session.hub()
    const from = await session.peer('ours', hub)
    const all = []
    for (let count = 0; count < RECIPIENTS; count++) {
      const peer = await session.peer('ours', hub)
      await peer.call('listen')
      all.push(peer)
    }

    /** Seconds that `send` takes until all have the file, which is checked and removed. */
    const timed = async (send) => {
      const saveDir = session.newFolder('copies', folder)
      const receiving = Promise.all(all.map((peer) => {
        const own = path.join(saveDir, peer.actorId)
        fs.mkdirSync(own)
        return peer.call('receive', { saveDir: own, count: 1 })
      }))
      const before = (await from.call('usage')).cpu
      const started = performance.now()
      await Promise.all([receiving, send()])
      const seconds = (performance.now() - started) / 1000
      const { cpu } = await from.call('usage')
      for (const [{ filePath }] of await receiving) {
        if (await sha256(filePath) !== file.hash) throw new Error(`${filePath} differs`)
      }
      fs.rmSync(saveDir, { recursive: true })
      return { seconds, cpu: cpu - before }
    }
    const call = to => from.call('send', { files: [file.path], to })
    const singly = async () => { for (const { actorId } of all) await call(actorId) }
    const together = () => call(all.map(({ actorId }) => actorId))
    // All know each other from then on, and the file has the age at which its hash is remembered.
    await timed(singly)
    const measured = { count: RECIPIENTS, size, singly: [], together: [] }
    for (let run = 0; run < runs; run++) {
      for (const [which, send] of run % 2 ? [['together', together], ['singly', singly]] : [['singly', singly], ['together', together]]) {
        measured[which].push(await timed(send))
      }
    }
    return measured
  }
}

/** How much longer one call takes than as many as there are recipients. */
function timeShare ({ singly, together }) {
  const of = taken => median(taken.map(({ seconds }) => seconds))
  return { singly: of(singly), together: of(together), share: of(together) / of(singly) }
}

module.exports = { recipients, timeShare }
