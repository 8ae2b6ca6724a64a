'use strict'

// Calls into the addon that take a while.

const addon = require('../addon')
const { aborted, wrap } = require('./error')
const { onAbort } = require('./signals')

/** What `start` comes to, which is given what ends it; `signal` does. Gives errors their class and stack. */
async function call (start, signal) {
  if (signal?.aborted) throw aborted(signal)
  const cancel = new addon.NativeCancel()
  const off = onAbort(signal, () => cancel.cancel())
  try {
    return await start(cancel)
  } catch (error) {
    throw wrap(error, signal)
  } finally {
    off()
  }
}

module.exports = { call }
