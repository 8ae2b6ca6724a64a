'use strict'

// How many columns of a terminal a text takes. Where terminals differ, as in joined emoji, it is the most of theirs:
// what was counted too wide leaves a gap, and what was counted too narrow breaks the line.

// East Asian Wide and Fullwidth of Unicode's annex 11, by the properties that JavaScript has.
const WIDE = /[\p{sc=Han}\p{sc=Hira}\p{sc=Kana}\p{sc=Hang}\p{sc=Bopo}\p{sc=Yi}\p{sc=Tang}\p{sc=Kits}\p{sc=Nshu}\p{Emoji_Presentation}\u2329\u232a\u2ff0-\u303e\u3099-\u30ff\u3190-\u33ff\ufe10-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{16ff0}\u{16ff1}\u{1f200}-\u{1f265}]/u
const HALF_WIDTH = /[\uff61-\uffdc]/
// Marks that stand on what precedes them, the later parts of a Korean syllable, and what has no shape.
const NONE = /[\p{Mn}\p{Me}\p{Cf}\p{Cc}\u1160-\u11ff]/u
// Shows the character before it as an emoji, which is wide.
const EMOJI_SELECTOR = '\ufe0f'

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' })

/** The columns that a text of one line takes. */
function width (text) {
  let columns = 0
  let before = 0
  for (const character of text) {
    const own = character === EMOJI_SELECTOR && before === 1 ? 1 : columnsOf(character)
    columns += own
    before = own
  }
  return columns
}

/** The text in at most so many columns: where it is longer, its middle makes way for `gap`, since names differ at their ends. */
function fit (text, columns, gap) {
  if (width(text) <= columns) return text
  const room = columns - width(gap)
  if (room <= 0) return gap.slice(0, columns)
  const parts = [...graphemes.segment(text)].map(({ segment }) => segment)
  const end = take(parts.toReversed(), Math.floor(room / 2)).reverse()
  const start = take(parts, room - width(end.join('')))
  return start.join('') + gap + end.join('')
}

/** The text, and blanks up to so many columns. */
function pad (text, columns) {
  return text + ' '.repeat(Math.max(columns - width(text), 0))
}

/** The first of these parts that fit into so many columns. */
function take (parts, columns) {
  const taken = []
  let left = columns
  for (const part of parts) {
    left -= width(part)
    if (left < 0) break
    taken.push(part)
  }
  return taken
}

function columnsOf (character) {
  if (character >= ' ' && character <= '~') return 1
  if (NONE.test(character)) return 0
  return WIDE.test(character) && !HALF_WIDTH.test(character) ? 2 : 1
}

module.exports = { fit, pad, width }
