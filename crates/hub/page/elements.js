// Elements, and how things are written. All text goes into the page as text: nothing that comes from the hub is
// ever read as markup.

/** An element with attributes and children; a child that is text becomes text. */
export function element (tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value)
  made.append(...children)
  return made
}

/** The element of an id. */
export function byId (id) {
  return document.getElementById(id)
}

/** Replaces the text of an element where it is another one, so that nothing is told again that did not change. */
export function setText (target, text) {
  if (target.textContent !== text) target.textContent = text
}

/** Foreign text, kept from turning the text around it. */
export function foreign (text) {
  return element('bdi', {}, text)
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']

/** A number of bytes, as `1.5 MB`. */
export function bytes (count) {
  let unit = 0
  let shown = count
  while (shown >= 999.5 && unit < UNITS.length - 1) {
    shown /= 1000
    unit++
  }
  const digits = unit === 0 || shown >= 99.95 ? 0 : 1
  return `${shown.toFixed(digits)} ${UNITS[unit]}`
}

/** A duration in milliseconds, as `3.2 s` or `4 min 10 s`. */
export function duration (ms) {
  if (ms < 1000) return `${ms} ms`
  const seconds = ms / 1000
  if (seconds < 99.95) return `${seconds.toFixed(1)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 100) return `${minutes} min ${Math.round(seconds) % 60} s`
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`
}

/** A count with its noun, as `1 transfer` or `12,345 transfers`. */
export function counted (count, noun, nouns = `${noun}s`) {
  return `${count.toLocaleString('en')} ${count === 1 ? noun : nouns}`
}

const CLOCK = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' })
const DATE = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short', year: 'numeric' })

/** The time of day here. */
export function clock (at) {
  return CLOCK.format(at)
}

/** A time in milliseconds, as an element: the time of day where it is of today, else the date too. */
export function time (at) {
  const when = new Date(at)
  const isToday = DATE.format(when) === DATE.format(new Date())
  const text = isToday ? CLOCK.format(when) : `${DATE.format(when)}, ${CLOCK.format(when)}`
  return element('time', { datetime: when.toISOString(), title: when.toISOString() }, text)
}

/** The states of a transfer: a sign that is no more than an ornament, and the word. */
export const STATES = {
  pending: ['○', 'offered'],
  in_progress: ['◐', 'under way'],
  completed: ['●', 'arrived'],
  failed: ['✕', 'failed'],
  rejected: ['⊘', 'declined'],
  cancelled: ['–', 'withdrawn']
}

/** What to show of a state. */
export function state (name) {
  const [sign, word] = STATES[name] ?? ['?', name]
  return element('span', { class: `state ${name}` }, element('span', { 'aria-hidden': 'true' }, sign), ` ${word}`)
}

/** Foreign text behind which a filter by it waits. */
export function filterButton (shown, what, act) {
  const button = element('button', { type: 'button', class: 'link' }, foreign(shown))
  button.title = what
  button.addEventListener('click', act)
  return button
}
