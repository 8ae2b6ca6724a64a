'use strict'

// What calls fail with.

const INVALID_ARGUMENT = 'ATS_P2P_INVALID_ARGUMENT'

/** Why a call or a transfer failed. Match on `code`; the message is for people. */
class AtsP2pError extends Error {
  constructor (message, { code, transferId, taskId, step, retryable = false, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    if (transferId != null) this.transferId = transferId
    if (taskId != null) this.taskId = taskId
    if (step != null) this.step = step
    this.retryable = retryable
  }
}
Object.defineProperty(AtsP2pError.prototype, 'name', { value: 'AtsP2pError', configurable: true, writable: true })

function invalid (message, value) {
  const got = value === undefined ? '' : `, not ${value === null ? 'null' : describe(value)}`
  return Object.assign(new TypeError(message + got), { code: INVALID_ARGUMENT, retryable: false })
}

function describe (value) {
  if (typeof value === 'string') return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value)
  if (typeof value === 'number' || typeof value === 'boolean') return String(value)
  return Array.isArray(value) ? 'an array' : `a value of type ${typeof value}`
}

function aborted (signal) {
  return new AtsP2pError('The caller aborted', { code: 'ATS_P2P_ABORTED', cause: signal.reason })
}

/** An error of the addon, which has no stack, as one that has. */
function wrap (error, signal) {
  if (!error?.code || error instanceof AtsP2pError) return error
  if (error.code === INVALID_ARGUMENT) return error instanceof TypeError ? error : invalid(error.message)
  const isAborted = error.code === 'ATS_P2P_ABORTED' && signal?.aborted
  if (isAborted && error.transferId === undefined) return aborted(signal)
  const cause = isAborted ? signal.reason : error
  return new AtsP2pError(error.message, { ...error, code: error.code, cause })
}

module.exports = { AtsP2pError, aborted, invalid, wrap }
