'use strict'

// What a command sends: files, and what is no file on the disk: its own input, and named pipes, as a shell makes for
// `<(command)`.

const fs = require('node:fs')
const net = require('node:net')
const path = require('node:path')
const { promisify } = require('node:util')
const { invalid } = require('../lib/error')

const open = promisify(fs.open)

/**
 * What `send` is to be given for its arguments: `{ filePath }`, or `{ stream }` for `-` and for a named pipe; or
 * `{ filePaths }` for several; each with the `fileName` that was given. `signal` ends the wait for a pipe's other end.
 */
async function given (files, fileName, signal) {
  const [file, ...others] = files
  const pipe = others.length > 0 && files.find(isPipe)
  if (pipe) throw invalid(`${pipe} is a pipe, and what comes by a pipe is sent alone: send it by itself, or what it gives as a file`)
  if (others.length > 0) return { filePaths: files, fileName }
  if (file === '-') return { stream: process.stdin, fileName }
  if (!isPipe(file)) return { filePath: file, fileName }
  const called = fileName ?? nameOf(file)
  if (called === null) throw invalid('what is it to be called? --name is required with a pipe that has no name of its own')
  return { stream: await openPipe(file, signal), fileName: called }
}

function isPipe (file) {
  try {
    return fs.statSync(file).isFIFO()
  } catch {
    // The library says what is wrong with it.
    return false
  }
}

/** The last part of a pipe's path; none where the system numbers pipes, as for `<(command)`. */
function nameOf (file) {
  const text = file.toString()
  return /^\/(dev|proc)\//.test(text) ? null : path.basename(text)
}

/** Opens a named pipe, which takes until somebody writes to it. Its reads hold no thread, unlike those of a file. */
async function openPipe (file, signal) {
  // A thread that waits for a writer would keep the process from ending; this is one.
  const letGo = () => {
    try {
      fs.closeSync(fs.openSync(file, fs.constants.O_WRONLY | fs.constants.O_NONBLOCK))
    } catch {
      // Nobody waits any more.
    }
  }
  signal.addEventListener('abort', letGo, { once: true })
  try {
    return new net.Socket({ fd: await open(file, 'r'), readable: true, writable: false })
  } finally {
    signal.removeEventListener('abort', letGo)
  }
}

module.exports = { given, isPipe }
