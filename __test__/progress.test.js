'use strict'

// How far transfers are, as a terminal shows it.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { Progress } = require('../bin/progress')
const { fit, width } = require('../bin/width')
const { FakeTerminal } = require('./fixtures/screen')

const UTF8 = { LANG: 'C.UTF-8' }
const HALF = { transferId: '1', fileName: 'report.pdf', phase: 'transferring', bytes: 50e6, totalBytes: 100e6, rate: 12.5e6, eta: 4 }
const HASHED = { transferId: '2', fileName: '写真.zip', phase: 'hashing', bytes: 0, totalBytes: 1e6, rate: null, eta: null }
const WAITING = { transferId: '3', fileName: 'x', phase: 'waiting', bytes: 0, totalBytes: 1e6, rate: null, eta: null }

test('a transfer is a line, as long as the terminal is wide, and loses first what is least important', async () => {
  const seen = new Map()
  for (let columns = 1; columns <= 120; columns++) {
    const { terminal, progress } = start(columns)
    progress.update(HALF)
    const lines = await terminal.shown()
    assert.ok(lines.length === (columns > 1 ? 1 : lines.length) && !terminal.screen.hasBroken(), `${columns} columns: ${lines.join('|')}`)
    seen.set(columns, lines[0])
    progress.end()
  }
  assert.deepEqual([120, 80, 60, 40, 24, 10].map(columns => seen.get(columns)), [
    'report.pdf  transferring  ━━━━━━━━━━━━━━━───────────────   50 %   50.0 of 100.0 MB   12.5 MB/s  0:04 left',
    'report.pdf  transferring  ━━━━━━━━━━━━───────────   50 %   12.5 MB/s  0:04 left',
    'report.pdf  transferring   50 %   12.5 MB/s  0:04 left',
    'report.pdf  transferring   50 %',
    'report.pdf   50 %',
    '50 %….pdf'
  ])
})

test('names of any script fit too', async () => {
  const names = ['写真集の写真集の写真集の写真集の写真集.zip', 'e\u0301'.repeat(60), '👩‍👩‍👧‍👦'.repeat(20), '❤️'.repeat(30), '한국어 파일.txt', 'ｱｲｳｴｵ'.repeat(10)]
  for (const fileName of names) {
    for (let columns = 12; columns <= 80; columns++) {
      const { terminal, progress } = start(columns)
      progress.update({ ...HALF, fileName })
      const lines = await terminal.shown()
      assert.ok(lines.length === 1 && !terminal.screen.hasBroken(), `${columns} columns: ${lines.join('|')}`)
      progress.end()
    }
  }
})

test('each transfer has its line, in columns, and what is printed stands above them', async () => {
  const { terminal, progress } = start(60)
  for (const transfer of [HALF, HASHED, WAITING]) progress.update(transfer)
  progress.around(() => terminal.write('Offered x\n'))
  assert.deepEqual(await terminal.shown(), [
    'Offered x',
    'report.pdf  transferring   50 %   12.5 MB/s  0:04 left',
    '写真.zip    hashing         0 %',
    'x           waiting       0:00'
  ])
  progress.update({ ...WAITING, phase: 'connecting' })
  progress.remove('2')
  assert.deepEqual(await terminal.shown(), [
    'Offered x',
    'report.pdf  transferring   50 %   12.5 MB/s  0:04 left',
    'x           connecting    0:00'
  ])
  progress.around(() => terminal.write('Done\n'))
  progress.end()
  assert.deepEqual(await terminal.shown(), ['Offered x', 'Done'])
})

test('one file on its way to several is told apart by whom it goes to', async () => {
  const { terminal, progress } = start(40)
  progress.update({ ...WAITING, peerId: 'b' })
  progress.update({ ...WAITING, transferId: '4', peerId: 'agent-c' })
  progress.around(() => {})
  assert.deepEqual(await terminal.shown(), ['b x        waiting       0:00', 'agent-c x  waiting       0:00'])
  progress.end()
})

test('the seconds that a transfer waits pass, and begin again with each phase', async () => {
  let now = 0
  const { terminal, progress } = start(60, () => now)
  progress.update(WAITING)
  now = 65_000
  progress.update(WAITING)
  assert.deepEqual(await terminal.shown(), ['x  waiting       1:05'])
  now = 3_725_000
  progress.update(WAITING)
  assert.deepEqual(await terminal.shown(), ['x  waiting       1:02:05'])
  now = 3_730_000
  progress.update({ ...WAITING, phase: 'connecting' })
  assert.deepEqual(await terminal.shown(), ['x  connecting    0:00'])
  progress.end()
})

test('there are no more lines than the terminal has rows', async () => {
  const { terminal, progress } = start(60, undefined, 4)
  for (let i = 1; i <= 9; i++) progress.update({ ...WAITING, transferId: String(i), fileName: String(i) })
  progress.around(() => {})
  assert.deepEqual(await terminal.shown(), ['1  waiting       0:00', '2  waiting       0:00', 'and 7 more'])
  progress.end()
  assert.deepEqual(await terminal.shown(), [])
})

test('a terminal that gets narrower or wider leaves nothing of the lines before', async () => {
  const { terminal, progress } = start(120)
  terminal.write('$ ats-p2p\n')
  progress.update(HALF)
  progress.update(HASHED)
  progress.around(() => {})
  for (const columns of [40, 20, 70, 31, 120, 15, 100]) {
    await terminal.resize(columns, 24)
    const lines = await terminal.shown()
    assert.equal(lines.length, 3, `${columns} columns: ${lines.join('|')}`)
    assert.equal(lines[0], '$ ats-p2p')
    assert.ok(!terminal.screen.hasBroken())
  }
  progress.end()
  assert.deepEqual(await terminal.shown(), ['$ ats-p2p'])
})

test('after a stop the lines are drawn anew, below what the shell has written', async () => {
  const { terminal, progress } = start(60)
  progress.update(WAITING)
  terminal.write('[1]+ Stopped\n$ fg\n')
  process.emit('SIGCONT')
  assert.deepEqual(await terminal.shown(), ['x  waiting       0:00', '[1]+ Stopped', '$ fg', 'x  waiting       0:00'])
  progress.end()
})

test('where nothing can be drawn over, a line each five seconds, without control codes', async () => {
  for (const [env, isShared] of [[{ TERM: 'dumb' }], [{ CI: 'true' }], [{}, true]]) {
    let now = 0
    const terminal = new FakeTerminal(80, 24, { coloured: true })
    const progress = new Progress(terminal, { env: { ...UTF8, ...env }, isShared, now: () => now })
    for (; now <= 10_000; now += 100) progress.update({ ...HALF, bytes: now * 10_000 })
    progress.around(() => terminal.write('Sent\n'))
    progress.end()
    assert.equal(terminal.written, [
      'report.pdf  transferring   50 %   12.5 MB/s  0:04 left\n',
      'report.pdf  transferring  100 %   12.5 MB/s  0:04 left\n',
      'Sent\n'
    ].join(''))
  }
})

test('colours are shown where they are wanted, and characters that the terminal may not have are not', async () => {
  const draw = (env, options) => {
    const terminal = new FakeTerminal(80, 24, options)
    const progress = new Progress(terminal, { env })
    progress.update(HALF)
    progress.end()
    return terminal.written
  }
  assert.match(draw(UTF8, { coloured: true }), /\x1b\[32m━+\x1b\[0m/)
  assert.doesNotMatch(draw(UTF8, { coloured: false }), /\x1b\[\d*m/)
  for (const env of [{}, { LANG: 'C' }, { LC_ALL: 'zh_CN.UTF-8', LANG: 'C.UTF-8' }]) assert.match(draw(env), /^[\x00-\x7f]*$/)
})

test('where there is no terminal, nothing is shown', () => {
  const written = []
  const progress = new Progress({ isTTY: false, write: text => written.push(text) }, { env: UTF8 })
  progress.update(HALF)
  progress.around(() => {})
  progress.end()
  assert.deepEqual(written, [])
})

test('a name that is cut keeps its beginning and its end, and no half of a character', () => {
  assert.equal(fit('report-of-the-year.pdf', 15, '…'), 'report-…ear.pdf')
  assert.equal(fit('写真集.zip', 7, '…'), '写…zip')
  assert.equal(fit('e\u0301'.repeat(9), 5, '…'), 'e\u0301e\u0301…e\u0301e\u0301')
  assert.equal(fit('short', 9, '…'), 'short')
  assert.deepEqual(['a', 'é', '写', 'ｱ', '한', '👍', '❤️', 'e\u0301', '\u200d', ''].map(width), [1, 1, 2, 1, 2, 2, 2, 1, 0, 0])
})

function start (columns, now, rows = 24) {
  const terminal = new FakeTerminal(columns, rows)
  return { terminal, progress: new Progress(terminal, { env: UTF8, now }) }
}
