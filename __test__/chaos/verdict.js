'use strict'

// What a run has to show: every transfer delivered, or ended in an error that its user can read.

/** How many bytes may be sent for each byte of a file, and how many more to arrange a transfer. */
const SENT_FOR_EACH = 1.3
const ARRANGING = 64 * 1024

/** What is wrong with a run, and one line of what came of it. */
function judge ({ began, transfers, problems: found, happened, arrivals, bytesSent }) {
  const sent = transfers.filter(({ state }) => state === 'sent')
  const problems = [...found, ...arrivals.wrong]
  const codes = {}
  let [delivered, lost] = [0, 0]
  for (const { name, outcome, hash, isOrphan, isResumed } of sent) {
    if (outcome === null) {
      // Its sender was killed before the offer was made, or remembered: whoever killed it knows.
      if (isOrphan && !isResumed) lost++
      else problems.push(`${name} never ended`)
    } else if (outcome.code === undefined) {
      delivered++
      if (outcome.hash !== hash) problems.push(`${name} was reported as delivered with another hash`)
      if (arrivals.count(name) === 0) problems.push(`${name} was reported as delivered and is not there`)
    } else {
      codes[outcome.code] = (codes[outcome.code] ?? 0) + 1
      if (!/^ATS_P2P_[A-Z_]+$/.test(outcome.code) || !isReadable(outcome.message)) {
        problems.push(`${name} ended in an error that says nothing: ${outcome.code} ${JSON.stringify(outcome.message)}`)
      }
    }
  }
  const size = sent.reduce((sum, { size }) => sum + size, 0)
  const most = SENT_FOR_EACH * size + ARRANGING * sent.length
  if (bytesSent > most) problems.push(`${bytesSent} bytes were sent, at most ${Math.round(most)} should have been`)
  const summary = [
    `${sent.length} of ${transfers.length} transfers in ${Math.round((Date.now() - began) / 1000)} s`,
    `${delivered} delivered`,
    ...list(codes),
    ...lost > 0 ? [`${lost} lost with a sender that was killed`] : [],
    ...list(happened),
    ...bytesSent === null ? [] : [`${(bytesSent / size).toFixed(2)} bytes sent for each`],
    problems.length === 0 ? 'nothing wrong' : `${problems.length} wrong`
  ].join(', ')
  return { problems, summary }
}

/** Whether a message tells its reader something. */
function isReadable (message) {
  return typeof message === 'string' && message.length > 10 && !/undefined|\[object|panicked/.test(message)
}

function list (counts) {
  return Object.entries(counts).map(([name, count]) => `${count} ${name}`)
}

module.exports = { judge }
