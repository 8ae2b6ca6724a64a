'use strict'

// What people read is true: every error code has its paragraph, every link leads somewhere, every command line in the
// documentation is one, and what is made from the sources is up to date.

const { test } = require('node:test')
const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { commandOf, findCommand, parse } = require('../bin/arguments')
const { exitCode } = require('../bin/exit-codes')

const ROOT = path.join(__dirname, '..')
const PAGES = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'SKILL.md', ...fs.readdirSync(path.join(ROOT, 'docs')).filter(name => name.endsWith('.md')).map(name => `docs/${name}`)]

test('each error code has a paragraph, with its exit code', () => {
  const known = [...read('index.d.ts').matchAll(/'(ATS_P2P_[A-Z_]+)'/g)].map(([, code]) => code)
  const paragraphs = new Map(read('docs/troubleshooting.md').split(/^### /m).slice(1).map(text => [text.split('\n')[0], text]))
  for (const code of known) {
    const paragraph = paragraphs.get(code)
    assert.ok(paragraph, `${code} has no paragraph in docs/troubleshooting.md`)
    const told = /^Exit code (\d+)/m.exec(paragraph)
    if (told) assert.equal(Number(told[1]), exitCode({ code }), code)
  }
  for (const code of paragraphs.keys()) {
    const said = ['index.d.ts', 'index.js', ...fs.readdirSync(path.join(ROOT, 'lib')).map(name => `lib/${name}`)].some(file => read(file).includes(code))
    assert.ok(said, `docs/troubleshooting.md has ${code}, which nothing gives`)
  }
})

test('links between the pages lead somewhere', () => {
  for (const page of PAGES) {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:)([^)\s]+)\)/g)) {
      const [file, anchor] = target.split('#')
      const place = file === '' ? page : path.join(path.dirname(page), file)
      assert.ok(fs.existsSync(path.join(ROOT, place)), `${page}: ${target}`)
      if (anchor && place.endsWith('.md')) assert.ok(anchors(read(place)).has(anchor), `${page}: ${target} names no heading`)
    }
  }
})

test('the reference is what the types say', () => {
  execFileSync(process.execPath, [path.join(ROOT, 'tools', 'api-docs.js'), '--check'], { stdio: 'pipe' })
})

test('programs in the documentation are the examples, which the tests run', () => {
  for (const page of PAGES) {
    for (const [, file, block] of read(page).matchAll(/<!-- (examples\/[\w.-]+) -->\n```\w*\n([\s\S]*?)```/g)) {
      assert.ok(read(file).includes(block.trim()), `${page}: what is shown of ${file} is not in it`)
    }
  }
})

test('each command line is one that the command takes', () => {
  const lines = PAGES.flatMap(page => commandLines(read(page)).map(line => [page, line]))
  assert.ok(lines.length > 30, 'no command lines were found')
  for (const [page, line] of lines) {
    const { name, args } = findCommand(words(line))
    if (name === undefined || name === 'help') continue
    const command = commandOf(name)
    assert.doesNotThrow(() => {
      const { values, positionals, rest } = parse(command, args)
      const problem = command.check?.(values, positionals, rest)
      // A program that --exec names need not be on this machine.
      assert.ok(!problem || problem.startsWith('--exec'), problem ?? '')
    }, `${page}: ${line}`)
  }
})

/** What follows the command's name in the shell blocks of a page, a line each. */
function commandLines (text) {
  const blocks = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block]) => block.replaceAll('\\\n', ' '))
  return blocks.flatMap(block => block.split('\n'))
    .map(line => /^(?:\$ )?(?:npx ats-p2p|ats-p2p|node bin\/ats-p2p\.js) ([^#|>]*)/.exec(line)?.[1].trim())
    .filter(line => line !== undefined && !line.startsWith('COMMAND'))
}

function words (line) {
  const identity = 'a'.repeat(64)
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].map(([, double, single, plain]) => double ?? single ?? plain.replace('IDENTITY', identity))
}

/** The names by which the headings of a page are linked. */
function anchors (text) {
  const prose = text.replace(/```[\s\S]*?```/g, '')
  return new Set([...prose.matchAll(/^#+ (.*)$/gm)].map(([, title]) => title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replace(/\s/g, '-')))
}

function read (file) {
  return fs.readFileSync(path.join(ROOT, file), 'utf8')
}
