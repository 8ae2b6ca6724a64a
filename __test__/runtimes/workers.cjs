'use strict'

// The same in worker threads, at once, and then in the main thread: the addon is loaded in each, and unloaded in some.

const { Worker, isMainThread, parentPort } = require('node:worker_threads')
const exchange = require('./exchange.cjs')

const WORKERS = 3

async function main () {
  await Promise.all(Array.from({ length: WORKERS }, () => new Promise((resolve, reject) => {
    let delivered = false
    new Worker(__filename)
      .on('message', () => { delivered = true })
      .on('error', reject)
      .on('exit', code => delivered && code === 0 ? resolve() : reject(new Error(`the worker ended with ${code}`)))
  })))
  await exchange(require('ats-p2p'))
  console.log('delivered')
}

if (isMainThread) main()
else exchange(require('ats-p2p')).then(() => parentPort.postMessage('delivered'))
