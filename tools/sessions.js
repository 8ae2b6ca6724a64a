#!/usr/bin/env node
// Writes docs/terminal.md: what each command shows on a terminal, recorded from real runs on terminals of their own, with
// what differs from run to run replaced. Needs the addon, and Python 3 for its ptys.
//
//   node tools/sessions.js           writes it
//   node tools/sessions.js --check   says whether it is as it would be written
'use strict'
const fs = require('node:fs')
const path = require('node:path')
const { withCleanup } = require('../__test__/fixtures/cleanup')
const { noTerminals } = require('../__test__/fixtures/terminal')
const { World } = require('./sessions/world')
const { CHAPTERS } = require('./sessions/chapters')

const PAGE = path.join(__dirname, '..', 'docs', 'terminal.md')
const AT_ONCE = 4
const HEAD = `# What the commands show

Made by \`node tools/sessions.js\`, which runs each command on a terminal of its own; a test holds this page to it. Ids, keys,
ports, times and rates differ from run to run, and are replaced here.
`

/** The page, from runs that are made for it. */
async function record () {
  return withCleanup(async (t) => {
    const shown = new Map()
    const waiting = CHAPTERS.flatMap(({ sessions }) => sessions)
    const play = async () => {
      for (let session = waiting.shift(); session !== undefined; session = waiting.shift()) {
        shown.set(session, await (await World.make(t)).play(session))
      }
    }
    // Where one fails, nothing is put away beneath the others.
    const ends = await Promise.allSettled(Array.from({ length: AT_ONCE }, play))
    for (const { reason } of ends) if (reason !== undefined) throw reason
    const chapter = ({ title, text, sessions }) => [`## ${title}\n${text}\n`, ...sessions.flatMap(session => shown.get(session)).map(block)]
    return [HEAD, ...CHAPTERS.flatMap(chapter)].join('\n')
  })
}

function block ({ caption, lines }) {
  return `${caption === undefined ? '' : `${caption}:\n`}\`\`\`text\n${lines.join('\n')}\n\`\`\`\n`
}

async function main ([option]) {
  const reason = noTerminals()
  if (reason !== null) throw new Error(reason)
  const page = await record()
  if (option !== '--check') fs.writeFileSync(PAGE, page)
  else if (page !== fs.readFileSync(PAGE, 'utf8')) throw new Error('docs/terminal.md is not as it would be written')
}

module.exports = { PAGE, record }

if (require.main === module) main(process.argv.slice(2))
