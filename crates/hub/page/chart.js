// Transfers by day: bars, the same as a table, and in one sentence.

import { byId, bytes, counted, element, filterButton, setText } from './elements.js'

const SVG = 'http://www.w3.org/2000/svg'
const WIDTH = 600
const HEIGHT = 120
const BASE = 96
const TOP = 14

/** Shows the totals; `choose(day)` is called for a day of the table that is picked. */
export function showDays ({ days }, choose) {
  const sum = name => days.reduce((all, day) => all + day[name], 0)
  const parts = [`${counted(sum('arrived'), 'transfer')} arrived (${bytes(sum('bytes'))})`, `${counted(sum('failed'), 'transfer')} failed`]
  const summary = `${parts.join(', ')}, of ${counted(sum('offered'), 'offer')}.`
  setText(byId('days-summary'), summary)
  byId('days-chart').replaceChildren(chart(days, summary))
  const body = byId('days-table').tBodies[0]
  // What somebody has the focus on stays as it is.
  if (!body.contains(document.activeElement)) body.replaceChildren(...[...days].reverse().map(day => row(day, choose)))
}

function row ({ day, offered, arrived, failed, ended, bytes: size }, choose) {
  const head = element('th', { scope: 'row' }, filterButton(day, 'Show this day', () => choose(day)))
  const cells = [offered, arrived, failed, ended].map(count => count.toLocaleString('en'))
  return element('tr', {}, head, ...[...cells, bytes(size)].map(text => element('td', { class: 'number' }, text)))
}

function chart (days, summary) {
  const svg = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': `Bar chart by day. ${summary}`, class: 'chart' })
  const most = Math.max(1, ...days.map(day => day.arrived + day.failed + day.ended))
  const step = WIDTH / days.length
  svg.append(shape('line', { x1: 0, x2: WIDTH, y1: BASE, y2: BASE, class: 'axis' }))
  days.forEach((day, at) => {
    const group = shape('g', {})
    const title = shape('title', {})
    title.textContent = `${day.day}: ${day.arrived} arrived, ${day.failed} failed, ${day.ended} declined or withdrawn, ${bytes(day.bytes)}`
    group.append(title)
    let y = BASE
    for (const name of ['arrived', 'failed', 'ended']) {
      if (day[name] === 0) continue
      const height = Math.max(2, (day[name] / most) * (BASE - TOP))
      y -= height
      group.append(shape('rect', { x: at * step + 2, width: step - 4, y, height, class: `bar ${name}` }))
    }
    svg.append(group)
  })
  svg.append(label(0, TOP - 4, 'start', most.toLocaleString('en')))
  svg.append(label(2, HEIGHT - 8, 'start', days[0].day), label(WIDTH - 2, HEIGHT - 8, 'end', days.at(-1).day))
  return svg
}

function label (x, y, anchor, text) {
  const made = shape('text', { x, y, 'text-anchor': anchor, class: 'label' })
  made.textContent = text
  return made
}

function shape (tag, attributes) {
  const made = document.createElementNS(SVG, tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  return made
}
