// A corpus as one text file: each input a line of hex, the short ones first. libFuzzer wants a folder of files.
//
// node fuzz/corpus.js unpack FILE FOLDER
// node fuzz/corpus.js pack FOLDER FILE

const fs = require('node:fs')
const path = require('node:path')

const [action, from, to] = process.argv.slice(2)

function unpack (file, folder) {
  fs.mkdirSync(folder, { recursive: true })
  const lines = fs.existsSync(file) ? fs.readFileSync(file, 'ascii').split('\n') : []
  for (const [index, line] of lines.entries()) {
    if (line !== '') fs.writeFileSync(path.join(folder, String(index)), Buffer.from(line, 'hex'))
  }
}

function pack (folder, file) {
  const inputs = fs.readdirSync(folder).map(name => fs.readFileSync(path.join(folder, name), 'hex'))
  const lines = [...new Set(inputs)].filter(line => line !== '')
  lines.sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
  fs.writeFileSync(file, lines.map(line => line + '\n').join(''))
}

({ unpack, pack })[action](from, to)
