'use strict'

// The results as SVG: bars for what each pairing and program reached.

const { rate, speed } = require('./figures')
const { NAMES, PAIRS } = require('./names')

const WIDTH = 760
const BAR = 26
const GAP = 14
/** Room for names on the left, for numbers on the right, for the title above, for the axis below. */
const MARGIN = { left: 190, right: 70, top: 48, bottom: 44 }
const COLORS = { ours: '#1f6feb', mixed: '#79a8e8', js: '#9a9a9a', other: '#c2b280', limit: '#444444' }
const PALE = '#e4e4e4'

function plots (results) {
  const ids = [...PAIRS, 'sendme', 'wormhole', 'scp', 'limit'].filter(id => results[id] && !results[id].missing)
  return ids.length ? { speed: bars(results, ids) } : {}
}

function bars (results, ids) {
  const values = ids.map(id => speed(results[id]))
  const runs = ids.map(id => results[id].whole ?? results[id].runs.map(rate))
  const highest = Math.max(...runs.flat())
  const step = niceStep(highest)
  const most = Math.ceil(highest / step) * step
  const x = value => MARGIN.left + value / most * (WIDTH - MARGIN.left - MARGIN.right)
  const bottom = MARGIN.top + ids.length * (BAR + GAP)
  const parts = [text(20, 26, 'One file in memory, over loopback, between two processes', { size: 15, weight: 600 })]
  for (let value = 0; value <= most; value += step) {
    parts.push(`<line x1="${x(value)}" y1="${MARGIN.top - 6}" x2="${x(value)}" y2="${bottom}" stroke="${PALE}"/>`)
    parts.push(text(x(value), bottom + 16, value, { anchor: 'middle', color: '#666' }))
  }
  parts.push(text(WIDTH - MARGIN.right, bottom + 36, 'MB/s, median; the whisker spans all runs', { anchor: 'end', color: '#666' }))
  ids.forEach((id, i) => {
    const y = MARGIN.top + i * (BAR + GAP)
    parts.push(text(MARGIN.left - 10, y + BAR / 2 + 4, NAMES[id], { anchor: 'end' }))
    parts.push(`<rect x="${MARGIN.left}" y="${y}" width="${(x(values[i]) - MARGIN.left).toFixed(1)}" height="${BAR}" fill="${COLORS[kind(id)]}"/>`)
    const [from, to] = [Math.min(...runs[i]), Math.max(...runs[i])].map(value => x(value).toFixed(1))
    const middle = y + BAR / 2
    parts.push(`<path d="M${from} ${middle}H${to}M${from} ${middle - 5}v10M${to} ${middle - 5}v10" stroke="#111" fill="none"/>`)
    parts.push(text(Number(to) + 8, middle + 4, values[i].toFixed(0), { weight: 600 }))
  })
  const height = bottom + MARGIN.bottom
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" ` +
    'font-family="system-ui, sans-serif">\n' +
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>\n${parts.join('\n')}\n</svg>\n`
}

function kind (id) {
  if (id === 'ours-ours') return 'ours'
  if (id === 'js-js') return 'js'
  if (id === 'limit') return 'limit'
  return PAIRS.includes(id) ? 'mixed' : 'other'
}

/** A round distance between four to eight marks of an axis. */
function niceStep (most) {
  const power = 10 ** Math.floor(Math.log10(most / 4))
  return [1, 2, 5, 10].map(factor => factor * power).find(step => most / step <= 8)
}

function text (x, y, content, { size = 12, anchor = 'start', weight = 400, color = '#111' } = {}) {
  return `<text x="${Math.round(x)}" y="${Math.round(y)}" font-size="${size}" font-weight="${weight}" text-anchor="${anchor}" fill="${color}">${content}</text>`
}

module.exports = { plots }
