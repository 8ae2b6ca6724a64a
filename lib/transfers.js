'use strict'

// The transfers of a node that are under way, as its events tell of them.

// The phase that an event without one stands for.
const PHASES = {
  offer_sent: 'waiting',
  offer_resumed: 'waiting',
  peer_connected: 'connecting',
  transfer_start: 'transferring'
}

class Transfers {
  #seen = new Map()

  /** Takes note of an event. */
  see (event, payload) {
    const { direction, transferId, phase = PHASES[event] } = payload
    if (transferId === undefined || event === 'file') return
    const key = `${direction} ${transferId}`
    if (event === 'transfer_complete' || event === 'transfer_failed') return this.#seen.delete(key)
    const before = this.#seen.get(key)
    const isSame = before?.phase === phase
    const { bytes, rate, eta } = event === 'transfer_progress' ? payload : isSame ? before : {}
    this.#seen.set(key, {
      transferId,
      taskId: payload.taskId ?? before?.taskId ?? null,
      direction,
      fileName: payload.fileName,
      originalName: payload.originalName,
      fileSize: payload.fileSize,
      fileHash: payload.fileHash || before?.fileHash || null,
      peerId: payload.peerId,
      peerIdentity: payload.peerIdentity,
      verified: payload.verified,
      firstUse: payload.firstUse,
      phase: phase ?? before?.phase ?? 'waiting',
      bytes: bytes ?? 0,
      totalBytes: payload.fileSize,
      rate: rate ?? null,
      eta: eta ?? null
    })
  }

  /** Those that run, of which `ids` are the ids. */
  list (ids) {
    const running = new Set(ids)
    for (const [key, { transferId }] of this.#seen) if (!running.has(transferId)) this.#seen.delete(key)
    return [...this.#seen.values()].map(transfer => ({ ...transfer }))
  }
}

module.exports = { Transfers }
