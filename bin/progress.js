'use strict'

const { fit, pad, width } = require('./width')

const REDRAW_MS = 100
const TICK_MS = 1000
// How often a transfer is told of where nothing can be drawn over.
const PLAIN_MS = 5000

const LONGEST_BAR = 30
const SHORTEST_BAR = 8
// A name is cut to this for anything else to be said, and to the next for a bar.
const SHORTEST_NAME = 12
const CUT_NAME = 20
const LONGEST_NAME = 40

const GREEN = '\x1b[32m'
const DIM = '\x1b[2m'
const PLAIN = '\x1b[0m'

/**
 * One line for each transfer at the foot of a terminal, drawn over as they get on. Where control codes do not belong
 * (TERM=dumb, CI, a pipe whose reader writes there too), a line each some seconds instead; where there is no terminal, nothing.
 */
class Progress {
  #stream
  #style
  #transfers = new Map()
  // The widths of the lines that stand there.
  #drawn = []
  #drawnAt = -Infinity
  #due = Infinity
  #timer = null
  #now
  // Undoes each thing that is listened to.
  #deaf = []

  /** `isShared`: others may write there too, at any time, and would break what is drawn over. */
  constructor (stream, { env = process.env, now = () => performance.now(), isShared = false } = {}) {
    this.#stream = stream
    this.#now = now
    this.#style = styleOf(stream, env, isShared)
  }

  /** Whether there is somebody to see it. */
  get isShown () {
    return this.#style !== null
  }

  /** How far a transfer is: `{ transferId, fileName, peerId, phase, bytes, totalBytes, rate, eta }`. */
  update (transfer) {
    if (!this.isShown) return
    const now = this.#now()
    const known = this.#transfers.get(transfer.transferId)
    const since = known?.phase === transfer.phase ? known.since : now
    this.#transfers.set(transfer.transferId, { ...transfer, since, told: known?.told ?? now })
    if (this.#style.live) this.#drawSoon()
    else this.#tell(this.#transfers.get(transfer.transferId), now)
  }

  /** A transfer is over, one way or another. */
  remove (transferId) {
    if (this.#transfers.delete(transferId) && this.#style.live) this.#draw()
  }

  /** Has `print` write to the terminal as if there were no lines, and shows them again below. */
  around (print) {
    this.#erase()
    print()
    if (this.#transfers.size > 0 && this.#style?.live) this.#draw()
  }

  /** Takes all away, for good. */
  end () {
    this.#transfers.clear()
    this.#erase()
    this.#drawAt(Infinity)
    for (const undo of this.#deaf.splice(0)) undo()
  }

  #tell (transfer, now) {
    if (now - transfer.told < PLAIN_MS) return
    transfer.told = now
    this.#stream.write(`${describe(transfer, { columns: this.#stream.columns, now, style: this.#style, bar: false })}\n`)
  }

  #drawSoon () {
    const due = this.#drawnAt + REDRAW_MS
    if (due <= this.#now()) this.#draw()
    else if (due < this.#due) this.#drawAt(due)
  }

  #drawAt (due) {
    clearTimeout(this.#timer)
    this.#due = due
    if (due !== Infinity) this.#timer = setTimeout(() => this.#draw(), Math.max(due - this.#now(), 0)).unref()
  }

  #draw () {
    this.#listen()
    const now = this.#drawnAt = this.#now()
    const lines = this.#lines(now)
    this.#stream.write(`${this.#up()}${lines.map(({ text }) => `${text}\x1b[K\n`).join('')}\x1b[J`)
    this.#drawn = lines.map(({ columns }) => columns)
    // Nobody tells of a transfer that waits, but its seconds pass.
    this.#drawAt(lines.length > 0 ? now + TICK_MS : Infinity)
  }

  /** The lines, no more than leave room for what is printed, each shorter than the terminal is wide. */
  #lines (now) {
    const { columns = 80, rows = 24 } = this.#stream
    const all = told(this.#transfers)
    const room = Math.max(rows - 1, 1)
    const shown = all.length > room ? all.slice(0, Math.max(room - 1, 0)) : all
    const nameColumns = Math.max(...shown.map(({ fileName }) => width(fileName)))
    const lines = shown.map(transfer => describe(transfer, { columns, nameColumns, now, style: this.#style, bar: true }))
    const more = all.length - shown.length
    if (more > 0) lines.push(fit(`and ${more} more`, Math.max(columns - 1, 1), ''))
    return lines.map(text => ({ text, columns: width(text.replace(/\x1b\[\d*m/g, '')) }))
  }

  #erase () {
    if (this.#drawn.length > 0) this.#stream.write(`${this.#up()}\x1b[J`)
    this.#drawn = []
  }

  /**
   * From below the last line to the start of the first: lines that a narrower terminal broke are more than one. The
   * cursor stands on a line of its own, since terminals differ in whether they break the one that it is on.
   */
  #up () {
    const { columns = 80 } = this.#stream
    const rows = this.#drawn.reduce((sum, drawn) => sum + Math.max(Math.ceil(drawn / columns), 1), 0)
    return rows > 0 ? `\r\x1b[${rows}A` : '\r'
  }

  #listen () {
    if (this.#deaf.length > 0) return
    const on = (emitter, event, listener) => {
      emitter.on(event, listener)
      this.#deaf.push(() => emitter.off(event, listener))
    }
    on(this.#stream, 'resize', () => { if (this.#drawn.length > 0) this.#draw() })
    // A shell has written below while this process was stopped.
    on(process, 'SIGCONT', () => {
      this.#drawn = []
      this.#draw()
    })
    on(process, 'exit', () => this.end())
  }
}

/** How things are drawn on this stream; null where nobody watches. */
function styleOf (stream, env, isShared = false) {
  if (!stream.isTTY) return null
  const live = !isShared && env.TERM !== 'dumb' && !isSet(env.CI)
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || (process.platform === 'win32' ? 'UTF-8' : '')
  // Chinese, Japanese and Korean terminals may show the characters of a bar twice as wide.
  const unicode = /utf-?8/i.test(locale) && !/^(zh|ja|ko)/.test(locale)
  const glyphs = unicode ? { done: '━', left: '─', gap: '…' } : { done: '=', left: '-', gap: '..' }
  return { live, coloured: live && (stream.hasColors?.() ?? false), ...glyphs }
}

function isSet (value) {
  return value !== undefined && !['', '0', 'false'].includes(value)
}

/**
 * A line about a transfer, in one column less than there are: a terminal that is written full breaks the line. What
 * there is no room for is left out, the least important first.
 */
function describe (transfer, { columns = 80, nameColumns, now, style, bar }) {
  const room = Math.max(columns - 1, 1)
  const name = transfer.fileName
  const wanted = facts(transfer, now)
  const chosen = []
  const left = () => room - chosen.reduce((sum, { text }) => sum + width(text) + 2, 0)
  for (const fact of wanted) {
    const beside = fact.spares ? Math.min(width(name), CUT_NAME) + SHORTEST_BAR + 2 : Math.min(width(name), SHORTEST_NAME)
    if (left() - fact.text.length - 2 >= beside) chosen.push(fact)
  }
  if (chosen.length === 0) return fit(`${wanted[0].text.trim()} ${name}`, room, style.gap)
  let ofName = Math.min(nameColumns ?? width(name), LONGEST_NAME, left())
  if (bar && chosen.length > 1 && isCounting(transfer)) {
    if (left() - ofName - 2 < SHORTEST_BAR) ofName = Math.max(Math.min(ofName, left() - SHORTEST_BAR - 2), Math.min(ofName, CUT_NAME))
    const space = Math.min(left() - ofName - 2, LONGEST_BAR)
    if (space >= SHORTEST_BAR) chosen.push({ place: 2, text: drawBar(share(transfer), space, style) })
  }
  const texts = chosen.sort((a, b) => a.place - b.place).map(({ text }) => text)
  return [pad(fit(name, ofName, style.gap), ofName), ...texts].join('  ').trimEnd()
}

/** What there is to say of a transfer, the most important first, each with its place in the line. */
function facts (transfer, now) {
  const { phase, bytes, totalBytes, rate, eta, since } = transfer
  // As wide as the longest of them, so that what follows stays in its column.
  const name = { place: 1, text: phase.padEnd(12) }
  if (!isCounting(transfer)) return [name, { place: 3, text: clock((now - since) / 1000) }]
  const all = [{ place: 3, text: `${String(Math.floor(share(transfer) * 100)).padStart(3)} %` }, name]
  // What is not known yet has its place, so that the bar does not change its length.
  all.push({ place: 6, text: (eta == null ? '' : `${clock(eta)} left`).padEnd(9) })
  all.push({ place: 5, text: (rate == null ? '' : `${megabytes(rate)} MB/s`).padStart(10) })
  const total = megabytes(totalBytes)
  // It leaves room for a bar, which says the same.
  all.push({ place: 4, text: `${megabytes(bytes).padStart(total.length)} of ${total} MB`, spares: true })
  return all
}

/** Whether a transfer is in a phase of so many bytes, not one that waits for somebody. */
function isCounting ({ phase }) {
  return phase !== 'waiting' && phase !== 'connecting'
}

function megabytes (bytes) {
  return (bytes / 1e6).toFixed(1)
}

/** The transfers, those of one name to several peers or from several told apart. */
function told (transfers) {
  const all = [...transfers.values()]
  const names = all.map(({ fileName }) => fileName)
  const isShared = name => names.indexOf(name) !== names.lastIndexOf(name)
  return all.map(transfer => isShared(transfer.fileName) ? { ...transfer, fileName: `${transfer.peerId} ${transfer.fileName}` } : transfer)
}

function share ({ bytes, totalBytes }) {
  return totalBytes > 0 ? Math.min(bytes / totalBytes, 1) : 1
}

function drawBar (share, columns, { done, left, coloured }) {
  const filled = Math.round(share * columns)
  const [full, empty] = [done.repeat(filled), left.repeat(columns - filled)]
  return coloured ? `${GREEN}${full}${PLAIN}${DIM}${empty}${PLAIN}` : full + empty
}

/** Seconds as `1:05`, or `2:00:09`. */
function clock (seconds) {
  const whole = Math.min(Math.max(Math.round(seconds), 0), 359_999)
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60]
  if (parts[0] === 0) parts.shift()
  return parts.map((part, i) => i === 0 ? String(part) : String(part).padStart(2, '0')).join(':')
}

module.exports = { Progress, describe, styleOf }
