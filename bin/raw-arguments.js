'use strict'

// Arguments as they were given. Node.js shows each byte of them that is not UTF-8 as U+FFFD.

const fs = require('node:fs')
const { invalid } = require('../lib/error')

/**
 * An argument, or what stands behind the `=` of one: the text itself, or where its bytes are none these bytes. Throws
 * where they can't be told.
 */
function asGiven (text) {
  if (!text.includes('\uFFFD') || process.platform === 'win32') return text
  const found = new Map(all().map(bytesOf(text)).filter(Boolean).map(bytes => [bytes.toString('hex'), bytes]))
  if (found.size === 1) return [...found.values()][0]
  throw invalid(found.size > 1
    ? `of several arguments that read ${text} each is of other bytes, and Node.js does not say which is which: give one at a time`
    : `${text} is not UTF-8, and this system does not say of which bytes it is: use another name, or a path as bytes in the API`)
}

/** The bytes of all arguments of this process; none where the system does not tell. */
function all () {
  try {
    const line = fs.readFileSync('/proc/self/cmdline')
    const args = []
    for (let at = 0, end; (end = line.indexOf(0, at)) >= 0; at = end + 1) args.push(line.subarray(at, end))
    return args
  } catch {
    return []
  }
}

/** What of an argument's bytes reads as this text. */
function bytesOf (text) {
  return (arg) => {
    const shown = arg.toString()
    if (shown === text) return arg
    return shown.startsWith('--') && shown.endsWith(`=${text}`) ? arg.subarray(arg.indexOf('=') + 1) : undefined
  }
}

module.exports = { asGiven }
