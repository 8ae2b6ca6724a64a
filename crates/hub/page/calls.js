// What the page asks the hub for.

/** The hub asks for a key. */
export class NeedsKey extends Error {}

/** Reads what is at a path; `query` has its parameters, those without a value left out. */
export async function read (path, query = {}, signal) {
  const given = Object.entries(query).filter(([, value]) => value !== '' && value !== null && value !== undefined)
  const parameters = new URLSearchParams(given).toString()
  return call(parameters ? `${path}?${parameters}` : path, { signal })
}

/** Posts a form. */
export async function post (path, form = {}) {
  return call(path, { method: 'POST', body: new URLSearchParams(form) })
}

async function call (path, options) {
  let answer
  try {
    answer = await fetch(path, { credentials: 'same-origin', cache: 'no-store', redirect: 'error', ...options })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Error('The hub does not answer.', { cause: error })
  }
  const said = await answer.json().catch(() => ({}))
  if (answer.ok) return said
  const message = said.error ?? `The hub answered with ${answer.status}.`
  throw answer.status === 401 ? new NeedsKey(message) : new Error(message)
}
