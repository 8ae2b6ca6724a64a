'use strict'

// This user's folder of state, and the files in it that tell of transfers in processes of their own.

const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

/** The folder, as the addon finds it too; absolute, so that it stays the same wherever a process goes. */
function homeFolder () {
  return path.resolve(process.env.ATS_P2P_HOME || path.join(os.homedir(), '.ats-p2p'))
}

/** A folder in it that only this user can look into. */
function privateFolder (name) {
  const folder = path.join(homeFolder(), name)
  fs.mkdirSync(folder, { recursive: true, mode: 0o700 })
  return folder
}

module.exports = { homeFolder, privateFolder }
