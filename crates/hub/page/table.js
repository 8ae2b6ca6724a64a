// The list of transfers. A row stays the same element for as long as it is shown, so that the focus and what a screen
// reader reads stay where they are while others come and go.

import { bytes, duration, element, filterButton, foreign, state, time } from './elements.js'

/** The columns: their names, as the head of the table has them, and what to show of a transfer. */
const COLUMNS = [
  ['File', fileCell],
  ['State', ({ state: name, reason }) => reason ? [state(name), ' ', element('span', { class: 'reason' }, foreign(reason))] : [state(name)]],
  ['From', ({ from }, choose) => [actor(from, choose)]],
  ['To', ({ to }, choose) => [to ? actor(to, choose) : element('span', { class: 'muted' }, 'anybody')]],
  ['Size', ({ size }) => size === null ? [] : [bytes(size)], 'number'],
  ['Path', ({ path }) => path === null ? [] : [foreign(path)]],
  ['Duration', ({ duration_ms: ms }) => ms === null ? [] : [duration(ms)], 'number'],
  ['Rate', ({ rate }) => rate === null ? [] : [`${bytes(rate)}/s`], 'number'],
  ['SHA-256', hashCell],
  ['Offered', ({ created_at: at }) => [time(at)]]
]

/** The rows of a table; `open(id)` shows one transfer, `choose(actor)` filters by an actor. */
export function rowsOf (table, { open, choose }) {
  const body = table.tBodies[0]
  const rows = new Map()

  function make (id) {
    const row = element('tr', { role: 'row' })
    for (const [name, , kind] of COLUMNS) {
      const isHead = name === 'File'
      const cell = element(isHead ? 'th' : 'td', { role: isHead ? 'rowheader' : 'cell', 'data-name': name })
      if (isHead) {
        cell.scope = 'row'
        const button = element('button', { type: 'button', class: 'link file', 'aria-haspopup': 'dialog' })
        button.addEventListener('click', () => open(id))
        cell.append(button)
      }
      if (kind) cell.className = kind
      row.append(cell)
    }
    return row
  }

  function fill (row, transfer) {
    const said = JSON.stringify(transfer)
    if (row.said === said) return
    row.said = said
    COLUMNS.forEach(([, show], at) => {
      const cell = row.cells[at]
      const shown = show(transfer, choose)
      const target = cell.querySelector('button.file') ?? cell
      cell.classList.toggle('empty', shown.length === 0)
      const fresh = element('div', {}, ...shown)
      if (fresh.isEqualNode(element('div', {}, ...[...target.childNodes].map(node => node.cloneNode(true))))) return
      const hadFocus = cell.contains(document.activeElement)
      target.replaceChildren(...fresh.childNodes)
      if (hadFocus) cell.querySelector('button')?.focus()
    })
  }

  /** The row to go to when `row` leaves: the one below, else the one above. */
  function nextTo (row, stays) {
    let below = row.nextElementSibling
    while (below && !stays.has(below)) below = below.nextElementSibling
    let above = row.previousElementSibling
    while (above && !stays.has(above)) above = above.previousElementSibling
    return below ?? above
  }

  return {
    /** Shows these transfers, in this order. */
    show (transfers) {
      const wanted = transfers.map(({ id }) => {
        if (!rows.has(id)) rows.set(id, make(id))
        return rows.get(id)
      })
      const stays = new Set(wanted)
      const focused = document.activeElement?.closest('tr')
      const isLeaving = focused && body.contains(focused) && !stays.has(focused)
      const heir = isLeaving ? nextTo(focused, stays) : null
      for (const [id, row] of rows) {
        if (stays.has(row)) continue
        row.remove()
        rows.delete(id)
      }
      let at = body.firstElementChild
      wanted.forEach((row, index) => {
        fill(row, transfers[index])
        if (row === at) at = at.nextElementSibling
        else body.insertBefore(row, at)
      })
      if (isLeaving) (heir?.querySelector('button') ?? table).focus()
    },
    /** Puts the focus on the row of an id, if it is shown. */
    focus (id) {
      rows.get(id)?.querySelector('button').focus()
    }
  }
}

function fileCell ({ file, title }) {
  return [file === null ? element('span', { class: 'muted' }, foreign(title)) : foreign(file)]
}

function actor ({ id, shown }, choose) {
  return filterButton(shown, 'Show the transfers of this actor', () => choose(id))
}

function hashCell ({ hash, is_verified: isVerified }) {
  if (hash === null) return []
  const short = element('code', { title: hash }, `${hash.slice(0, 12)}…`)
  return isVerified ? [short, ' ', element('span', { class: 'verified' }, 'verified')] : [short]
}
