'use strict'

// Options that a call does not know. The original passes over them in silence, and so do options of the future; so
// they are no error. But a name that was mistyped is a setting that does not hold, of which nobody is told.

// Names that people and other tools have for an option.
const ALSO_CALLED = {
  to: 'recipientId',
  recipient: 'recipientId',
  recipients: 'recipientIds',
  file: 'filePath',
  path: 'filePath',
  files: 'filePaths',
  paths: 'filePaths',
  url: 'atsUrl',
  org: 'organization',
  maxSize: 'maxFileSize',
  dir: 'saveDir',
  folder: 'saveDir',
  allow: 'allowedPeers',
  concurrency: 'maxConcurrent'
}

// Warnings that are kept in mind, so that each comes once.
const MAX_TOLD = 256
const told = new Set()

/** Warns, once a process, of each option that is set and not in `table`; `others` are the tables of other calls. */
function warnOfUnknown (call, options, table, others) {
  for (const name of unknown(options, table)) {
    const key = `${call} ${name}`
    if (told.has(key) || told.size >= MAX_TOLD) continue
    told.add(key)
    process.emitWarning(`${call}: unknown option ${quoted(name)}${hint(name, table, others)}`, {
      type: 'AtsP2pWarning',
      code: 'ATS_P2P_UNKNOWN_OPTION'
    })
  }
}

/** The unknown option that may have been meant by `wanted`, or undefined. */
function meantBy (wanted, options, table) {
  return unknown(options, table).find(name => nearest(name, table) === wanted)
}

function unknown (options, table) {
  return Object.keys(options).filter((name) => {
    // Not read: what belongs to nobody here may have a getter that throws.
    const { get, value } = Object.getOwnPropertyDescriptor(options, name) ?? {}
    return !Object.hasOwn(table, name) && (get !== undefined || value !== undefined)
  })
}

function hint (name, table, others) {
  const known = nearest(name, table)
  if (known) return `; did you mean ${quoted(known)}?`
  const calls = Object.keys(others).filter(other => Object.hasOwn(others[other], name))
  return calls.length > 0 ? `; it is an option of ${calls.join(' and ')}` : ''
}

/** The name in `table` that is most like this one; undefined where none is. */
function nearest (name, table) {
  if (Object.hasOwn(ALSO_CALLED, name) && Object.hasOwn(table, ALSO_CALLED[name])) return ALSO_CALLED[name]
  const plain = text => text.toLowerCase().replace(/[^a-z\d]/g, '')
  const wanted = plain(name)
  if (wanted === '' || wanted.length > 40) return undefined
  // One slip in three letters, two in six, and so on: beyond that it is another word.
  let best = { name: undefined, slips: Math.ceil((wanted.length + 1) / 3) }
  for (const known of Object.keys(table)) {
    const slips = distance(wanted, plain(known))
    if (slips < best.slips) best = { name: known, slips }
  }
  return best.name
}

/** How many letters were left out, added, changed or swapped with their neighbour. */
function distance (a, b) {
  let before = []
  let last = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(last[j] + 1, next[j - 1] + 1, last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1))
      const isSwapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]
      if (isSwapped) next[j] = Math.min(next[j], before[j - 2] + 1)
    }
    [before, last] = [last, next]
  }
  return last[b.length]
}

/** In backticks, whatever it holds. */
function quoted (name) {
  const short = name.length > 80 ? `${name.slice(0, 80)}…` : name
  return `\`${JSON.stringify(short).slice(1, -1)}\``
}

module.exports = { meantBy, nearest, quoted, warnOfUnknown }
