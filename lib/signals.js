'use strict'

// Aborting by a signal of the caller's, of whichever make.

// What is to be called by each signal that is listened to. However many calls have the same signal, it has one
// listener of ours, so that Node.js sees no leak where there is none.
const listening = new WeakMap()

/** Calls `callback` when `signal` aborts, until the function that this returns is called. */
function onAbort (signal, callback) {
  if (!signal) return () => {}
  let entry = listening.get(signal)
  if (!entry) {
    const callbacks = new Set()
    entry = { callbacks, listener: () => { for (const call of [...callbacks]) call() } }
    signal.addEventListener('abort', entry.listener)
    listening.set(signal, entry)
  }
  // Two calls may share a function; each is called.
  const call = () => callback()
  entry.callbacks.add(call)
  return () => {
    if (!entry.callbacks.delete(call) || entry.callbacks.size > 0) return
    signal.removeEventListener('abort', entry.listener)
    if (listening.get(signal) === entry) listening.delete(signal)
  }
}

/** Whether it does what an AbortSignal does: one of another realm, or a polyfill, is of another class. */
function isSignal (value) {
  return typeof value === 'object' && value !== null && typeof value.aborted === 'boolean' &&
    typeof value.addEventListener === 'function' && typeof value.removeEventListener === 'function'
}

module.exports = { isSignal, onAbort }
