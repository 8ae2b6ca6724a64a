'use strict'

// What is sent and what happens meanwhile, all of it from the seed: a number says the same twice.

/** Interruptions of a run, each with what it befalls and how long it lasts, in milliseconds. */
const KINDS = {
  'kill sender': { target: 'sender', ms: [100, 2000] },
  'kill receiver': { target: 'receiver', ms: [100, 2000] },
  'kill hub': { target: 'hub', ms: [100, 2000] },
  'pause sender': { target: 'sender', ms: [1000, 6000] },
  'pause receiver': { target: 'receiver', ms: [1000, 6000] },
  'cut link': { target: 'link', ms: [500, 8000] },
  'slow link': { target: 'link', ms: [2000, 8000] },
  'fill disk': { target: 'disk', ms: [1000, 4000] }
}

/** One interruption for so many transfers, on average. */
const TRANSFERS_PER_INTERRUPTION = 2.5

const KB = 1024
const MB = 1024 * KB
// Of so many in a hundred, the largest size.
const SIZES = [[70, 256 * KB], [20, 8 * MB], [8, 64 * MB]]

/**
 * `{ transfers: [{ id, name, size }], interruptions: [{ kind, target, transfer, at, ms }] }`. An interruption begins
 * when its transfer gets as far as `at`: `offered`, `started`, a part of its bytes, or `ended`.
 */
function plan ({ seed, transfers: count, largest, kinds }) {
  const random = generator(seed)
  const between = (low, high) => Math.round(low + random() * (high - low))
  const pick = list => list[Math.floor(random() * list.length)]
  const transfers = Array.from({ length: count }, (_, id) => {
    const size = Math.min(sizeOf(random, between, largest), largest)
    return { id, name: `file-${id}.bin`, size }
  })
  // One of the largest is always among them.
  pick(transfers).size = largest
  const interruptions = []
  for (let place = random() * TRANSFERS_PER_INTERRUPTION; place < count; place += 2 * random() * TRANSFERS_PER_INTERRUPTION) {
    const { id, size } = transfers[Math.floor(place)]
    const kind = pick(kinds)
    const at = size > 4 * MB ? 0.05 + 0.9 * random() : pick(['offered', 'started', 'ended'])
    interruptions.push({ kind, target: KINDS[kind].target, transfer: id, at, ms: between(...KINDS[kind].ms) })
  }
  return { transfers, interruptions }
}

function sizeOf (random, between, largest) {
  let share = random() * 100
  for (const [part, most] of SIZES) {
    if (share < part) return between(0, most)
    share -= part
  }
  return between(largest / 2, largest)
}

/** A generator of numbers from 0 to 1 (mulberry32). */
function generator (seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

module.exports = { KINDS, plan }
