'use strict'

// Offers that are taken by iterating.

const { onAbort } = require('./signals')

// So many offers are kept before those are looked for that wait no more.
const FIRST_SWEEP = 64

/**
 * The offers of a node that no iteration was given yet, by their channels. They stay unclaimed meanwhile, and no more
 * are kept than a node has open at once, which the addon bounds.
 */
class OfferQueues {
  #isOpen
  #stayAlive
  #channels = new Map()
  // Those that have begun and not ended.
  #iterations = new Set()
  #size = 0
  #sweepAt = FIRST_SWEEP
  #ended = false

  /** `isOpen` tells whether an offer waits yet, `stayAlive` whether the process is waited with. */
  constructor (isOpen, stayAlive) {
    this.#isOpen = isOpen
    this.#stayAlive = stayAlive
  }

  /** An offer came: whoever has waited for one longest gets it. */
  put (channel, handle, offer) {
    if (this.#ended) return
    const queue = this.#queue(channel)
    if (queue.waiters.length > 0) return queue.waiters[0].give(offer)
    queue.offers.push({ handle, offer })
    if (++this.#size >= this.#sweepAt) this.#sweep()
  }

  /** Iterates over the offers on a channel, and begins with `start` when the first one is asked for. */
  iterate (channel, signal, start) {
    const iteration = { channel, waiters: new Set(), error: null, over: false, begun: false, off: () => {} }
    const end = () => this.#finish(iteration)
    const iterator = {
      next: async () => {
        if (!iteration.begun && !iteration.over && !this.#ended && !signal?.aborted) {
          iteration.begun = true
          // Over, if it can't begin.
          iteration.over = true
          start()
          iteration.over = false
          iteration.off = onAbort(signal, end)
          this.#iterations.add(iteration)
        }
        return this.#next(iteration, signal)
      },
      return: async (value) => {
        end()
        return { done: true, value }
      },
      throw: async (error) => {
        end()
        throw error
      },
      [Symbol.asyncIterator]: () => iterator,
      [Symbol.asyncDispose]: async () => end()
    }
    return iterator
  }

  #next (iteration, signal) {
    const { error } = iteration
    if (error) {
      iteration.error = null
      throw error
    }
    if (iteration.over || this.#ended || signal?.aborted) return { done: true, value: undefined }
    const offer = this.#take(iteration.channel)
    if (offer) return { done: false, value: offer }
    return new Promise((resolve, reject) => {
      const settle = (call, value) => {
        iteration.waiters.delete(waiter)
        const queue = this.#queue(iteration.channel)
        queue.waiters = queue.waiters.filter(other => other !== waiter)
        this.#waits()
        call(value)
      }
      const waiter = {
        give: value => settle(resolve, { done: false, value }),
        end: () => settle(resolve, { done: true, value: undefined }),
        fail: error => settle(reject, error)
      }
      iteration.waiters.add(waiter)
      this.#queue(iteration.channel).waiters.push(waiter)
      this.#waits()
    })
  }

  #finish (iteration) {
    iteration.over = true
    iteration.off()
    this.#iterations.delete(iteration)
    for (const waiter of iteration.waiters) waiter.end()
  }

  /** Ends the iterations with an error, now or when they ask for the next offer; says whether there were any. */
  fail (error) {
    const failed = [...this.#iterations]
    for (const iteration of failed) {
      const [waiter] = iteration.waiters
      if (waiter) waiter.fail(error)
      else iteration.error ??= error
      this.#finish(iteration)
    }
    return failed.length > 0
  }

  /** No offer comes any more: all iterations end. */
  end () {
    this.#ended = true
    for (const iteration of [...this.#iterations]) this.#finish(iteration)
    this.#channels.clear()
  }

  /** The first of the offers that waits for its answer still. */
  #take (channel) {
    const { offers } = this.#queue(channel)
    while (offers.length > 0) {
      const { handle, offer } = offers.shift()
      this.#size--
      if (this.#isOpen(handle)) return offer
    }
    return undefined
  }

  #sweep () {
    this.#size = 0
    for (const queue of this.#channels.values()) {
      queue.offers = queue.offers.filter(({ handle }) => this.#isOpen(handle))
      this.#size += queue.offers.length
    }
    this.#sweepAt = Math.max(FIRST_SWEEP, this.#size * 2)
  }

  #queue (channel) {
    let queue = this.#channels.get(channel)
    if (!queue) this.#channels.set(channel, queue = { offers: [], waiters: [] })
    return queue
  }

  /** Who waits for an offer wants the process to live until it comes. */
  #waits () {
    this.#stayAlive([...this.#channels.values()].some(({ waiters }) => waiters.length > 0))
  }
}

module.exports = { OfferQueues }
