// The hub's events by WebSocket. While there is none, it tells that something may have changed now and then.

const POLL_EVERY = 5000
const RETRY_FIRST = 1000
const RETRY_LAST = 30_000

/**
 * Hears of changes until `stop()`: `changed(event)` is called for each event of a transfer, and without one when it is
 * not known what has changed; `state` is told `live` or `polling`.
 */
export function listen ({ changed, state }) {
  let socket = null
  let pause = RETRY_FIRST
  let retry = null
  let poll = null
  let isStopped = false

  function connect () {
    const scheme = window.location.protocol === 'https:' ? 'wss' : 'ws'
    socket = new WebSocket(`${scheme}://${window.location.host}/ws?page`)
    socket.onmessage = ({ data }) => hear(JSON.parse(data))
    socket.onclose = lost
  }

  function hear (message) {
    if (message.type === 'connected') {
      socket.send(JSON.stringify({ type: 'subscribe', id: 'page', task_types: ['file_offer'] }))
    } else if (message.type === 'subscribed') {
      pause = RETRY_FIRST
      clearInterval(poll)
      poll = null
      state('live')
      changed()
    } else if (message.type.startsWith('task.')) {
      changed({ type: message.type, id: message.data.task.id })
    }
  }

  function lost () {
    if (isStopped) return
    state('polling')
    changed()
    poll ??= setInterval(() => changed(), POLL_EVERY)
    retry = setTimeout(connect, pause * (0.5 + Math.random() / 2))
    pause = Math.min(2 * pause, RETRY_LAST)
  }

  connect()
  return {
    stop () {
      isStopped = true
      clearInterval(poll)
      clearTimeout(retry)
      socket.close()
    }
  }
}
