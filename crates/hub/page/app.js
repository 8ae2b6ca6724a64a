// The page: who is looking, which transfers they asked for, and what to read again when something happens.

import { NeedsKey, post, read } from './calls.js'
import { showDays } from './chart.js'
import { byId, clock, counted, element, foreign, setText } from './elements.js'
import { listen } from './live.js'
import { rowsOf } from './table.js'
import { trailDialog } from './trail.js'

const FILTERS = ['state', 'actor', 'channel', 'text', 'day']
/** How many transfers are read at once, and how many of those that are shown are kept up to date. */
const PAGE = 50
const MOST_LIVE = 200
/** How often what is shown is read again while it changes, in milliseconds; the totals and who is connected less often. */
const LIST_EVERY = 1000
const TOTALS_EVERY = 5000
const CONNECTED_EVERY = 10_000
/** How often what is new is told in words: a screen reader reads each of them out. */
const NEWS_EVERY = 10_000

let filters = {}
let shown = []
let next = null
let live = null
let timers = []
let loading = new AbortController()
let starts = 0

const trail = trailDialog({
  failed,
  closed (id) {
    if (window.location.hash) window.history.replaceState(null, '', window.location.pathname + window.location.search)
    // The browser has given the focus back at once, and somebody may be elsewhere by now.
    if (document.activeElement === document.body) rows.focus(id)
  }
})
const rows = rowsOf(byId('transfers'), { open: openTrail, choose: actor => choose({ actor }) })

/** Runs `work` at once and then at most once in a time, however often it is asked for; never twice at a time. */
function paced (every, work) {
  let isRunning = false
  let isAsked = false
  async function run () {
    if (isRunning || document.hidden) {
      isAsked = true
      return
    }
    isRunning = true
    isAsked = false
    await work().catch(failed)
    setTimeout(() => {
      isRunning = false
      if (isAsked) run()
    }, every)
  }
  return run
}

const refreshList = paced(LIST_EVERY, () => readList({ limit: Math.min(Math.max(shown.length, PAGE), MOST_LIVE) }))
const refreshTotals = paced(TOTALS_EVERY, async () => showDays(await read('/page/days'), day => choose({ day })))
const refreshConnected = paced(CONNECTED_EVERY / 2, async () => showConnected(await read('/page/connected')))

function refresh () {
  refreshList()
  refreshTotals()
  refreshConnected()
}

/** Reads the newest transfers that the filters let through; what is shown behind them stays. */
async function readList ({ limit }) {
  const { signal } = loading
  const said = await read('/page/transfers', { ...filters, limit }, signal)
  if (signal.aborted) return
  const last = said.transfers.at(-1)
  const behind = last && said.next ? shown.filter(transfer => isOlder(transfer, last)) : []
  if (behind.length === 0) next = said.next
  show([...said.transfers, ...behind], said)
}

function isOlder (one, other) {
  return one.created_at < other.created_at || (one.created_at === other.created_at && one.id < other.id)
}

async function readOlder () {
  const button = byId('older')
  const { signal } = loading
  const before = shown.length
  button.disabled = true
  try {
    const said = await read('/page/transfers', { ...filters, limit: PAGE, cursor: next }, signal)
    if (signal.aborted) return
    next = said.next
    const known = new Set(shown.map(({ id }) => id))
    show([...shown, ...said.transfers.filter(({ id }) => !known.has(id))], said)
    setText(byId('news'), `${counted(shown.length - before, 'more transfer')}, ${shown.length.toLocaleString('en')} shown.`)
  } finally {
    button.disabled = false
  }
  // The button is where it was, or there is nothing older: then the focus is not lost.
  if (!byId('older').hidden) byId('older').focus()
  else if (shown.length > 0) rows.focus(shown.at(-1).id)
}

function show (transfers, { next: more, looked_back_to: reached }) {
  shown = transfers
  rows.show(transfers)
  const isFiltered = Object.keys(filters).length > 0
  const none = byId('none')
  none.hidden = transfers.length > 0
  const nothing = 'No transfer yet. The first one that is offered on this hub appears here.'
  setText(none, none.hidden ? '' : isFiltered ? 'No transfer that was looked at is like that.' : nothing)
  const older = byId('older')
  older.hidden = next === null
  setText(older, more !== null && reached !== null ? 'Look further back' : 'Show older')
  setText(byId('reach'), next !== null && reached !== null ? `Looked back to ${new Date(reached).toLocaleString('en-GB')}.` : '')
}

/** What has happened since it was last told. */
const news = new Map()

function happened (event) {
  if (event) {
    news.set(event.type, (news.get(event.type) ?? 0) + 1)
    if (event.type !== 'task.message') refresh()
  } else {
    refresh()
  }
  trail.changed(event?.id)
}

function tellNews () {
  const told = [['task.created', 'offered'], ['task.completed', 'arrived'], ['task.failed', 'failed'], ['task.rejected', 'declined']]
    .filter(([type]) => news.has(type))
    .map(([type, word]) => `${news.get(type).toLocaleString('en')} ${word}`)
  news.clear()
  if (told.length > 0) setText(byId('news'), `By ${clock(Date.now())}: ${told.join(', ')}.`)
}

function showConnected ({ actors, pages, unnamed, more }) {
  const count = counted(actors.length + more, 'agent')
  const others = [pages && counted(pages, 'page'), unnamed && `${counted(unnamed, 'listener')} without a name`].filter(Boolean)
  setText(byId('connected-summary'), [`${count} listening`, ...others].join(', ') + '.')
  const items = actors.map(({ actor, channels, all_channels: isAll, connections }) => {
    const where = isAll ? ['all channels'] : channels.flatMap((channel, at) => at === 0 ? [foreign(channel)] : [', ', foreign(channel)])
    const times = connections > 1 ? [` (${counted(connections, 'connection')})`] : []
    return element('li', {}, element('strong', {}, foreign(actor.shown)), ' on ', ...where, ...times)
  })
  if (more > 0) items.push(element('li', {}, `and ${more.toLocaleString('en')} more`))
  byId('connected').replaceChildren(...items)
}

/** Filters by what is given, beside what was filtered by before. */
function choose (more) {
  if (document.querySelector('dialog[open]')) trail.close()
  setFilters({ ...filters, ...more })
  byId('transfers').focus()
}

function setFilters (wanted) {
  filters = Object.fromEntries(FILTERS.filter(name => wanted[name]).map(name => [name, wanted[name]]))
  for (const name of FILTERS) byId(name).value = filters[name] ?? ''
  const query = new URLSearchParams(filters).toString()
  window.history.replaceState(null, '', window.location.pathname + (query && `?${query}`) + window.location.hash)
  loading.abort()
  loading = new AbortController()
  shown = []
  next = null
  readList({ limit: PAGE }).then(() => {
    const count = next === null ? counted(shown.length, 'transfer') : `The newest ${counted(shown.length, 'transfer')}`
    setText(byId('news'), `${count} shown.`)
  }).catch(failed)
}

function openTrail (id) {
  window.history.replaceState(null, '', `#${id}`)
  trail.open(id)
}

function failed (error) {
  if (error.name === 'AbortError') return
  if (error instanceof NeedsKey) {
    start().catch(failed)
    return
  }
  const trouble = byId('trouble')
  trouble.hidden = false
  setText(trouble, error.message)
}

function state (name) {
  const target = byId('live')
  target.className = `stream ${name}`
  setText(target, name === 'live' ? 'Live' : 'No event stream: looking every 5 s')
  byId('trouble').hidden = true
}

function stop () {
  live?.stop()
  live = null
  timers.forEach(clearInterval)
  timers = []
  loading.abort()
  loading = new AbortController()
  shown = []
  rows.show([])
  setText(byId('live'), '')
  trail.close()
}

/** Finds out who is looking, and shows what is for them. */
async function start () {
  stop()
  const count = ++starts
  const session = await read('/page/session')
  // Of several calls that were refused at once, the last begins anew.
  if (count !== starts) return
  byId('trouble').hidden = true
  byId('sign-in').hidden = !session.needs_key
  byId('board').hidden = session.needs_key
  byId('sign-out').hidden = !session.is_signed_in
  const who = byId('who')
  who.replaceChildren()
  if (session.needs_key) {
    byId('key').focus()
    return
  }
  if (session.is_signed_in) who.append('Signed in as ', foreign(session.actor), session.sees_all ? ', who sees the transfers of all' : '')
  else who.append('On this hub no key is needed from here')
  setFilters(Object.fromEntries(new URLSearchParams(window.location.search)))
  live = listen({ changed: happened, state })
  timers = [setInterval(tellNews, NEWS_EVERY), setInterval(refreshConnected, CONNECTED_EVERY)]
  const asked = /^#(\d+)$/.exec(window.location.hash)
  if (asked) trail.open(Number(asked[1]))
}

byId('sign-in').querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault()
  const key = byId('key')
  try {
    setText(byId('key-error'), '')
    await post('/page/sign-in', { key: key.value })
    key.value = ''
    await start()
    byId('transfers').focus()
  } catch (error) {
    setText(byId('key-error'), error.message)
    key.select()
  }
})

byId('sign-out').addEventListener('click', async () => {
  await post('/page/sign-out').catch(failed)
  await start().catch(failed)
})

byId('filters').addEventListener('submit', (event) => {
  event.preventDefault()
  setFilters(Object.fromEntries(FILTERS.map(name => [name, byId(name).value.trim()])))
})
byId('filters').addEventListener('reset', (event) => {
  event.preventDefault()
  setFilters({})
})
byId('state').addEventListener('change', () => byId('filters').requestSubmit())
byId('day').addEventListener('change', () => byId('filters').requestSubmit())
byId('older').addEventListener('click', () => readOlder().catch(failed))
document.addEventListener('visibilitychange', () => { if (!document.hidden && live) refresh() })

start().catch(failed)
