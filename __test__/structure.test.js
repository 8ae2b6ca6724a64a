'use strict'
const { test } = require('node:test')
const assert = require('node:assert/strict')
const { spawnSync } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')

const SCRIPT = path.join(__dirname, '..', 'tools', 'structure.js')

/** What the check says of a crate made of these files: `{status, output}`. */
function check (t, files) {
  const crate = fs.mkdtempSync(path.join(os.tmpdir(), 'structure-'))
  t.after(() => fs.rmSync(crate, { recursive: true }))
  for (const [name, text] of Object.entries(files)) {
    const file = path.join(crate, name)
    fs.mkdirSync(path.dirname(file), { recursive: true })
    fs.writeFileSync(file, text)
  }
  const { status, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, '.'], { cwd: crate, encoding: 'utf8' })
  assert.equal(stderr, '')
  return { status, output: stdout }
}

test('a crate in order passes, with imports between a module and those below it', t => {
  const { status, output } = check(t, {
    'src/lib.rs': 'mod a;\nmod b;\npub use a::A;\npub struct Root;\n',
    'src/a/mod.rs': 'mod inner;\npub use inner::Inner;\npub struct A(crate::Root);\n',
    'src/a/inner.rs': 'use super::A;\npub struct Inner(Box<A>);\n',
    'src/b.rs': 'use crate::A;\npub struct B(A);\n'
  })
  assert.deepEqual({ status, output }, { status: 0, output: '' })
})

test('an import circle is found with the names that tie it', t => {
  const { status, output } = check(t, {
    'src/lib.rs': 'mod a;\nmod b;\nmod c;\n',
    'src/a.rs': 'use super::b::{self, B};\npub struct A(B);\n',
    'src/b.rs': 'pub struct B;\nfn f() { crate::c::g() }\n',
    'src/c.rs': 'use crate::a;\npub fn g() -> a::A { todo!() }\n'
  })
  assert.equal(status, 1)
  assert.equal(output, [
    'import circle of 3 files:',
    '  src/a.rs -> src/b.rs: B',
    '  src/b.rs -> src/c.rs: g',
    '  src/c.rs -> src/a.rs: A\n'
  ].join('\n'))
})

test('a name that is re-exported, under another name or by a glob, leads to the file that defines it', t => {
  const { output } = check(t, {
    'src/lib.rs': 'mod a;\nmod b;\nmod face;\n',
    'src/face.rs': 'pub use crate::a::A as Mask;\npub use crate::b::*;\n',
    'src/a.rs': 'use crate::face::B;\npub struct A(B);\n',
    'src/b.rs': 'use crate::face::Mask;\npub struct B(Mask);\n'
  })
  assert.match(output, /^import circle of 2 files:\n {2}src\/a.rs -> src\/b.rs: B\n {2}src\/b.rs -> src\/a.rs: A\n$/)
})

test('tests, comments and strings tie nothing', t => {
  const { status, output } = check(t, {
    'src/lib.rs': 'mod a;\nmod b;\n',
    'src/a.rs': 'use crate::b::B;\npub struct A(B);\n',
    'src/b.rs': [
      '//! See [`crate::a::A`]; /* crate::a::A */',
      'pub struct B;',
      'const TEXT: &str = "crate::a::A \\" crate::a::A";',
      'const RAW: (&str, char) = (r#"crate::a::A" "#, \'"\');',
      '#[cfg(test)]',
      'fn help(_: [u8; 2]) { crate::a::A; }',
      '#[cfg(test)]',
      'mod tests {\n    use crate::a::A;\n    struct B;\n}\n'
    ].join('\n')
  })
  assert.deepEqual({ status, output }, { status: 0, output: '' })
})

test('a type name that is defined twice is found, but for what is compiled for different systems', t => {
  const { status, output } = check(t, {
    'src/lib.rs': 'mod a;\nmod b { pub enum State {} }\n#[cfg(unix)]\nmod unix;\n#[cfg(not(unix))]\nmod other;\n',
    'src/a.rs': 'pub struct State;\nimpl A for State { type Item = (); }\nimpl B for State { type Item = (); }\n',
    'src/unix.rs': 'pub struct Folder;\n',
    'src/other.rs': 'pub struct Folder;\n'
  })
  assert.equal(status, 1)
  assert.equal(output, 'type State is defined 2 times: src/a.rs, src/lib.rs\n')
})

test('a line is as long as its characters, in the tests too', t => {
  const { status, output } = check(t, {
    'src/lib.rs': `// ${'ä'.repeat(107)}\n`,
    'tests/it.rs': `\n// ${'ä'.repeat(108)}\n`
  })
  assert.equal(status, 1)
  assert.equal(output, 'tests/it.rs:2: 111 columns\n')
})
