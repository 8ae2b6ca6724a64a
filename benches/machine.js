'use strict'

// The machine and the state of the source that numbers belong to.

const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const ROOT = path.join(__dirname, '..')

function machine () {
  const [{ model }] = os.cpus()
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    commit: git('rev-parse', '--short', 'HEAD') + (git(...CHANGES) ? ' with changes' : ''),
    cpu: model.trim(),
    cores: os.cpus().length,
    memory: os.totalmem(),
    system: `${os.type()} ${os.release()}`,
    node: process.version,
    rust: text('rustc', '--version'),
    // What other programs left of the processor when the measurement began.
    load: os.loadavg()[0],
    receiveBuffer: Number(fs.existsSync(RMEM) ? fs.readFileSync(RMEM, 'utf8') : NaN),
    peers: Object.fromEntries(['hyperswarm', 'hyperdht', 'udx-native'].map(name => [name, version(name)]))
  }
}

// What benchmarks write is no part of what they measure.
const CHANGES = ['status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs/benchmarks']
const RMEM = '/proc/sys/net/core/rmem_max'

function git (...args) {
  return text('git', '-C', ROOT, ...args)
}

function text (command, ...args) {
  const { stdout } = spawnSync(command, args, { encoding: 'utf8' })
  return stdout?.trim() ?? ''
}

function version (name) {
  return JSON.parse(fs.readFileSync(path.join(ROOT, 'node_modules', name, 'package.json'), 'utf8')).version
}

module.exports = { machine }
