'use strict'

// Where characters that can't be seen belong: the rules of crates/protocol/src/joiners.rs, for what is printed. The
// tables are of Unicode's properties that JavaScript does not have; a test there holds them and the rules together.

// Joining_Type Dual_Joining and Left_Joining: what joins the next letter, as in Arabic.
const JOINING_NEXT = characters(`
  620 626 628 62a-62e 633-63f 641-647 649-64a 66e-66f 678-687 69a-6bf 6c1-6c2 6cc 6ce 6d0-6d1 6fa-6fc 6ff
  712-714 71a-71d 71f-727 729 72b 72d-72e 74e-758 75c-76a 76d-770 772 775-777 77a-77f 7ca-7ea 841-845 848
  84a-853 855 860 862-865 868 886 889-88d 88f 8a0-8a9 8af-8b0 8b3-8b8 8ba-8c8 1807 1820-1878 1887-18a8 18aa
  a840-a872 10ac0-10ac4 10acd 10ad3-10adc 10ade-10ae0 10aeb-10aee 10b80 10b82 10b86-10b88 10b8a-10b8b 10b8d
  10b90 10bad-10bae 10d00-10d21 10d23 10ec3-10ec4 10ec6-10ec7 10ed9-10eee 10f30-10f32 10f34-10f44
  10f51-10f53 10f70-10f73 10f76-10f81 10fb0 10fb2-10fb3 10fb8 10fbb-10fbc 10fbe-10fbf 10fc1 10fc4
  10fca-10fcb 1e900-1e943
`)

// Joining_Type Dual_Joining and Right_Joining: what joins the one before.
const JOINING_LAST = characters(`
  620 622-63f 641-64a 66e-66f 671-673 675-6d3 6d5 6ee-6ef 6fa-6fc 6ff 710 712-72f 74d-77f 7ca-7ea 840-858
  860 862-865 867-86a 870-882 886 889-88f 8a0-8ac 8ae-8c8 1807 1820-1878 1887-18a8 18aa a840-a871
  10ac0-10ac5 10ac7 10ac9-10aca 10ace-10ad6 10ad8-10ae1 10ae4 10aeb-10aef 10b80-10b91 10ba9-10bae
  10d01-10d23 10ec2-10ec4 10ec6-10ec7 10f30-10f44 10f51-10f54 10f70-10f81 10fb0 10fb2-10fb6 10fb8-10fbf
  10fc1-10fc4 10fc9-10fca 1e900-1e943
`)

// Canonical_Combining_Class 9: what takes the vowel from a letter, so that it joins the next one.
const VIRAMAS = characters(`
  94d 9cd a4d acd b4d bcd c4d ccd d3b-d3c d4d dca e3a eba f84 1039-103a 1714-1715 1734 17d2 1a60 1b44
  1baa-1bab 1bf2-1bf3 2d7f a806 a82c a8c4 a953 a9c0 aaf6 abed 10a3f 11046 11070 1107f 110b9 11133-11134
  111c0 11235 112ea 1134d 113ce-113d0 11442 114c2 115bf 1163f 116b6 1172b 11839 1193d-1193e 119e0 11a34
  11a47 11a99 11c3f 11d44-11d45 11d97 11f41-11f42 1612f
`)

// Marks upon one character, at most.
const MAX_MARKS = 10

const PICTOGRAPH = '[\\p{Emoji}--[\\u{0}-\\u{7f}\\u{1f1e6}-\\u{1f1ff}\\u{1f3fb}-\\u{1f3ff}]]'
const MARK = '[\\p{M}--[\\p{Default_Ignorable_Code_Point}]]'
const NONSPACING = '[[\\p{Mn}\\p{Me}]--[\\p{Default_Ignorable_Code_Point}]]'
const MONGOLIAN = '[[\\u{1820}-\\u{18aa}]&&\\p{L}]'
const RA = '[\\u{9b0}\\u{c30}\\u{cb0}]'
// England, Scotland and Wales: a black flag, and the tags that say whose it is.
const FLAGS = ['gbeng', 'gbsct', 'gbwls'].map((region) => {
  const tags = [...region].map(letter => `\\u{${(0xe0000 + letter.charCodeAt(0)).toString(16)}}`)
  return ['\\u{1f3f4}', ...tags, '\\u{e007f}']
})

const PLACES = new RegExp([
  `(?<=[${JOINING_NEXT}&&\\p{L}]${MARK}{0,${MAX_MARKS}})\\u{200c}(?=${JOINING_LAST})`,
  `(?<=\\p{L}${MARK}{0,${MAX_MARKS - 1}}${VIRAMAS})(?:\\u{200c}(?=\\p{L})|\\u{200d}(?!\\p{M}))`,
  `(?<=${RA})\\u{200d}(?=${VIRAMAS})`,
  `(?<=${PICTOGRAPH}[\\u{fe0f}\\u{1f3fb}-\\u{1f3ff}]?)\\u{200d}(?=${PICTOGRAPH})`,
  `(?<=${PICTOGRAPH})[\\u{fe0e}\\u{fe0f}]|(?<=[0-9#*])\\u{fe0f}(?=\\u{20e3})`,
  '(?<=\\p{Unified_Ideograph})[\\u{fe00}-\\u{fe02}\\u{e0100}-\\u{e01ef}]',
  `(?<=${MONGOLIAN})[\\u{180b}-\\u{180d}\\u{180f}]`,
  `(?<=${MONGOLIAN}[\\u{180b}-\\u{180d}\\u{180f}]?)\\u{180e}(?=[\\u{1820}\\u{1821}])`,
  ...FLAGS.flatMap(flag => flag.slice(1).map((tag, at) => `(?<=${flag.slice(0, at + 1).join('')})${tag}(?=${flag.slice(at + 2).join('')})`))
].join('|'), 'vy')

/** A mark above so many others that they cover the lines around them. */
const HEAPED = new RegExp(`(?<=${NONSPACING}{${MAX_MARKS}})${NONSPACING}`, 'gv')

/** Whether what can't be seen at this place of a text belongs there. */
function belongs (text, at) {
  PLACES.lastIndex = at
  return PLACES.test(text)
}

/** Characters, alone or from one to another in hexadecimal digits, as a part of a regular expression. */
function characters (text) {
  return `[${text.trim().split(/\s+/).map(range => range.replace(/[0-9a-f]+/g, '\\u{$&}')).join('')}]`
}

module.exports = { HEAPED, belongs }
