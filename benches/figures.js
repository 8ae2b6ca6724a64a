'use strict'

// What is drawn from the runs of a row.

const GIB = 2 ** 30

function median (numbers) {
  const sorted = [...numbers].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** Megabytes a second of one run. */
function rate ({ bytes, seconds }) {
  return bytes / 1e6 / seconds
}

/** Megabytes a second of a row: the median of its runs. */
function speed (result) {
  return median(result.whole ?? result.runs.map(rate))
}

/** Processor seconds a GiB, of the sender and of the receiver: medians. */
function perGib ({ runs }) {
  const of = end => median(runs.map(({ bytes, cpu }) => cpu[end] / (bytes / GIB)))
  return { sender: of('sender'), receiver: of('receiver') }
}

module.exports = { median, perGib, rate, speed }
