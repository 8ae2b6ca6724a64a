// One transfer: what is known of it, and what happened to it, in a dialog.

import { read } from './calls.js'
import { byId, bytes, duration, element, foreign, setText, state, time } from './elements.js'

/** What happened, in words. */
const EVENTS = {
  'task.created': 'offered',
  'task.claimed': 'taken',
  'task.updated': 'changed, or the claim renewed',
  'task.completed': 'arrived',
  'task.cancelled': 'withdrawn',
  'task.failed': 'failed',
  'task.rejected': 'declined',
  'task.reopened': 'opened again',
  'task.message': 'message',
  'task.lease_expired': 'the claim ran out'
}

const SIGNATURES = {
  valid: 'the offer and the completion, each by its own side',
  missing: 'not by both sides',
  unknown: 'for an address that this hub cannot tell is its own',
  wrong: 'wrong: what stands here is not what was signed'
}

/** The dialog; `failed(error)` hears of what only the whole page can answer. */
export function trailDialog ({ failed, closed }) {
  const dialog = byId('trail')
  let shown = null
  byId('trail-close').addEventListener('click', () => dialog.close())
  // A click beside it.
  dialog.addEventListener('click', ({ target }) => { if (target === dialog) dialog.close() })
  dialog.addEventListener('close', () => {
    const id = shown
    shown = null
    closed(id)
  })

  async function load () {
    const id = shown
    try {
      const said = await read(`/page/transfers/${id}`)
      if (shown === id) show(said)
    } catch (error) {
      if (shown !== id) return
      setText(byId('trail-trouble'), error.message)
      failed(error)
    }
  }

  return {
    /** Shows a transfer. */
    open (id) {
      shown = id
      setText(byId('trail-title'), `Transfer ${id}`)
      setText(byId('trail-trouble'), '')
      setText(byId('trail-note'), '')
      byId('trail-facts').replaceChildren()
      byId('trail-events').tBodies[0].replaceChildren()
      if (!dialog.open) dialog.showModal()
      return load()
    },
    /** Looks again, if it is this one that is shown; without an id, whichever it is. */
    changed (id) {
      if (shown !== null && (id === undefined || id === shown)) load()
    },
    close () {
      dialog.close()
    }
  }
}

function show ({ transfer, signatures, trail, is_cut: isCut }) {
  setText(byId('trail-trouble'), '')
  byId('trail-title').replaceChildren(foreign(transfer.file ?? transfer.title))
  byId('trail-facts').replaceChildren(...facts(transfer, signatures))
  byId('trail-events').tBodies[0].replaceChildren(...trail.map(event))
  const note = trail.length === 0 ? 'Nothing was kept of it.' : isCut ? 'More happened than is shown here.' : ''
  setText(byId('trail-note'), note)
}

function facts (transfer, signatures) {
  const { size, hash, path, duration_ms: ms, rate } = transfer
  const measured = transfer.duration_from === 'receiver' ? 'as the receiver measured it' : 'from its claim to its end'
  const verified = transfer.is_verified ? 'The receiver says that it verified it.' : 'Nobody has said that it was verified.'
  const told = [
    ['State', state(transfer.state)],
    ['Why', transfer.reason && foreign(transfer.reason)],
    ['From', foreign(transfer.from.shown)],
    ['To', transfer.to ? foreign(transfer.to.shown) : 'anybody'],
    ['Channel', foreign(transfer.channel.shown)],
    ['Project', foreign(transfer.project)],
    ['Size', size !== null && `${bytes(size)} (${size.toLocaleString('en')} bytes)`],
    ['SHA-256', hash && element('span', {}, element('code', {}, hash), ` ${verified}`)],
    ['Path', path && foreign(path)],
    ['Duration', ms !== null && `${duration(ms)}, ${measured}`],
    ['Rate', rate !== null && `${bytes(rate)}/s`],
    ['Signed', transfer.state === 'completed' && SIGNATURES[signatures.state]],
    ['Sender’s identity', signatures.sender && element('code', {}, signatures.sender)],
    ['Receiver’s identity', signatures.receiver && element('code', {}, signatures.receiver)],
    ['Offered', time(transfer.created_at)],
    ['Transfer id', transfer.transfer_id && foreign(transfer.transfer_id)],
    ['Task', String(transfer.id)]
  ]
  return told
    .filter(([, what]) => what)
    .map(([name, what]) => element('div', {}, element('dt', {}, name), element('dd', {}, what)))
}

function event ({ at, event: kind, to, actor, message, repeated }) {
  const times = repeated > 1 ? ` (${repeated} times, the last shown)` : ''
  const what = `${EVENTS[kind] ?? kind}${times}`
  const cells = [what, actor ? foreign(actor.shown) : '', message ? foreign(message) : '']
  return element('tr', { class: to }, element('th', { scope: 'row' }, time(at)), ...cells.map(cell => element('td', {}, cell)))
}
