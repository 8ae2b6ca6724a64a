'use strict'

// What rows are called in tables and plots.

const PAIRS = ['ours-ours', 'ours-js', 'js-ours', 'js-js']

/** What carries folders beside this package. */
const BESIDE = ['tar', 'rsync', 'sendme']

const NAMES = {
  'ours-ours': 'ats-p2p to ats-p2p',
  'ours-js': 'ats-p2p to JavaScript',
  'js-ours': 'JavaScript to ats-p2p',
  'js-js': 'JavaScript to JavaScript',
  tunnel: 'ats-p2p to ats-p2p by the tunnel',
  sendme: 'sendme',
  wormhole: 'magic-wormhole',
  scp: 'scp',
  tar: 'tar over ssh',
  rsync: 'rsync over ssh',
  limit: 'the limit'
}

module.exports = { BESIDE, NAMES, PAIRS }
