'use strict'

// What is the same in every run of what a terminal shows. What stands in a column keeps its width.

const { width } = require('../../bin/width')

const REPLACED = [
  [/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, '1b4e28ba-2fa1-4d3b-a3f5-ef19b5a7633b'],
  [/\b(atsp2p_\w+_)?[0-9a-f]{64}\b/g, (all, kind = '') => kind + '0123456789abcdef'.repeat(4)],
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z/g, '2026-12-01T09:30:00.000Z'],
  [/answers in [\d.]+ ms/g, 'answers in 2 ms'],
  [/^(Version: +).*$/, '$10.1.0'],
  [/connected in [\d.]+ ms(, round trip [\d.]+ ms)?/g, 'connected in 12 ms, round trip 0.4 ms'],
  [/(127\.0\.0\.1|localhost):\d+/g, '$1:8787'],
  [/in [\d.]+ s \([\d.]+ MB\/s\)/g, 'in 0.25 s (95.0 MB/s)'],
  [/after [\d.]+ s\b/g, 'after 0.25 s'],
  [/((?:waiting|connecting) +)\d+:\d\d$/, '$10:05']
]

// A line of progress, of which less is said where there is less room.
const PROGRESS = /^(.*(?:hashing|transferring) +)[━─]+ +\d+ %.*$/
const ROOM_FOR_RATE = 60
const LONGEST_BAR = 30

/** Lines as wide as the terminal at most, from paragraphs that it may have broken. */
function stable (paragraphs, columns, home) {
  return paragraphs
    .map(text => REPLACED.reduce((changed, [pattern, by]) => changed.replace(pattern, by), text.replaceAll(home, '/home/me')))
    .map(text => text.replace(PROGRESS, (line, start) => progress(start, columns)))
    .flatMap(text => broken(text, columns))
}

function progress (start, columns) {
  const rest = `   50 %${columns < ROOM_FOR_RATE ? '' : '   95.0 MB/s  0:42 left'}`
  const length = Math.max(Math.min(columns - 1 - width(start) - rest.length, LONGEST_BAR), 0)
  return start + '━'.repeat(length / 2).padEnd(length, '─') + rest
}

/** As a terminal breaks it: where it is full. */
function broken (text, columns) {
  const lines = ['']
  for (const character of text) {
    if (width(lines.at(-1) + character) > columns) lines.push('')
    lines[lines.length - 1] += character
  }
  return lines
}

module.exports = { stable }
