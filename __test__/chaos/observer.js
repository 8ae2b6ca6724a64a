'use strict'

// Asks the hub which offers are open, and tells its parent: a process, since the hub may be in a network of its own.

const { setTimeout: sleep } = require('node:timers/promises')

const PAUSE_MS = 500
const PAGE = 200

async function main () {
  const { url } = JSON.parse(process.env.CHAOS_OBSERVER)
  for (const event of ['disconnect', 'message']) process.on(event, () => process.exit(0))
  for (;;) {
    const asked = Date.now()
    try {
      const open = [...await list(url, 'pending'), ...await list(url, 'in_progress')]
      process.send({ event: 'open', asked, tasks: open })
    } catch (error) {
      process.send({ event: 'unreached', message: error.message })
    }
    await sleep(PAUSE_MS)
  }
}

async function list (url, status) {
  const found = []
  for (let offset = 0; ; offset += PAGE) {
    const response = await fetch(`${url}/tasks?status=${status}&limit=${PAGE}&offset=${offset}`, { signal: AbortSignal.timeout(5000) })
    const { tasks } = await response.json()
    for (const { id, status, payload, lease_expires: lease } of tasks) found.push({ id, status, name: payload.filename, lease })
    if (tasks.length < PAGE) return found
  }
}

main()
