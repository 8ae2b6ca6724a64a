'use strict'

// What runs ends with its thread. A worker's is ended by the addon's clean-up hook; Node.js runs none at the end of the
// main thread.

const { isMainThread } = require('node:worker_threads')
const addon = require('../addon')

let leaves = !isMainThread

/** To be called before something is started. */
function leaveAtExit () {
  if (leaves) return
  // Where there is no addon, this says so.
  const { endAll } = addon
  leaves = true
  process.once('exit', () => endAll())
}

module.exports = { leaveAtExit }
