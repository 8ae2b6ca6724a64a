'use strict'

// What rows are called in tables and plots.

const PAIRS = ['ours-ours', 'ours-js', 'js-ours', 'js-js']

const NAMES = {
  'ours-ours': 'ats-p2p to ats-p2p',
  'ours-js': 'ats-p2p to JavaScript',
  'js-ours': 'JavaScript to ats-p2p',
  'js-js': 'JavaScript to JavaScript',
  tunnel: 'ats-p2p to ats-p2p by the tunnel',
  sendme: 'sendme',
  wormhole: 'magic-wormhole',
  scp: 'scp',
  limit: 'the limit'
}

module.exports = { NAMES, PAIRS }
