'use strict'

// What instrumentation is told, by diagnostics_channel. It costs nothing where nobody listens.

const { channel, tracingChannel } = require('node:diagnostics_channel')
const { AtsP2pError } = require('./error')

const EVENTS = { send: channel('ats-p2p:send'), receive: channel('ats-p2p:receive') }
const CALLS = { send: tracingChannel('ats-p2p:send'), receive: tracingChannel('ats-p2p:receive') }

/** Publishes an event of a transfer under the name of its direction. */
function publish (node, event, payload) {
  const events = EVENTS[payload.direction]
  if (events?.hasSubscribers) events.publish({ event, node, ...payload })
}

/** Traces a call that sends or receives. */
function traced (direction, context, run) {
  const calls = CALLS[direction]
  return calls.hasSubscribers ? calls.tracePromise(run, context) : run()
}

/** The transfers of a node that no call waits for: a watch with a `saveDir` takes their files. */
class Unattended {
  #node
  // The contexts of those that are traced, and the transfers that a call waits for.
  #contexts = new Map()
  #attended = new Set()

  constructor (node) {
    this.#node = node
  }

  /** Runs a call that receives a file. */
  async attend (transferId, run) {
    this.#attended.add(transferId)
    try {
      return await run()
    } finally {
      this.#attended.delete(transferId)
    }
  }

  /** Traces what is seen of a transfer by its events. */
  see (event, payload) {
    const { direction, transferId } = payload
    if (direction !== 'receive' || event === 'file' || this.#attended.has(transferId)) return
    const calls = CALLS.receive
    const context = this.#contexts.get(transferId)
    const isOver = event === 'transfer_complete' || event === 'transfer_failed'
    if (!context && !isOver && calls.hasSubscribers) {
      const begun = { node: this.#node, offer: payload }
      this.#contexts.set(transferId, begun)
      calls.start.publish(begun)
      calls.end.publish(begun)
    }
    if (!context || !isOver) return
    this.#contexts.delete(transferId)
    if (event === 'transfer_complete') {
      context.result = { success: true, ...payload }
    } else {
      context.error = new AtsP2pError(payload.reason, payload)
      calls.error.publish(context)
    }
    calls.asyncStart.publish(context)
    calls.asyncEnd.publish(context)
  }
}

module.exports = { Unattended, publish, traced }
