// Every call of the package, from TypeScript: compiled and run by types.test.js, against a hub of its own. It prints
// which properties the objects have that the declarations name, `{ NAME: [keys] }`.

import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join as pathOf } from 'node:path'

import {
  AtsP2pError, backupHub, createNode, doctor, health, hubKeys, identity, join, peers, settings, startDht, startHub,
  verify, version, waitForDoctor, whoami, type AtsP2pNode, type Hub, type NodeOptions, type RunningTransfer
} from 'ats-p2p'

const seen: Record<string, string[]> = {}

/** Notes what an object of this name has, of its own and by its classes. */
function note<T extends object> (name: string, object: T): T {
  const own = Object.entries(object).filter(([, value]) => value !== undefined).map(([key]) => key)
  const more: string[] = []
  for (let of = Object.getPrototypeOf(object); of !== Object.prototype && of !== EventEmitter.prototype && of !== Error.prototype; of = Object.getPrototypeOf(of)) {
    more.push(...Object.getOwnPropertyNames(of).filter(key => key !== 'constructor'))
  }
  seen[name] = [...new Set([...own, ...more])]
  return object
}

async function transfers (a: AtsP2pNode, b: AtsP2pNode, folder: string): Promise<{ id: string, copy: string }> {
  const filePath = pathOf(folder, 'file')
  writeFileSync(filePath, 'content')
  const running: RunningTransfer[] = []
  for (const name of ['offer_sent', 'peer_connected', 'transfer_start', 'transfer_complete'] as const) {
    a.once(name, (payload: object) => { note(name, payload) })
  }
  b.on('transfer_start', () => { running.push(...b.transfers()) })
  let last = 0
  const sent = a.send({ filePath, recipientId: 'b', onProgress: ({ bytesSent }) => { last = bytesSent } })
  let copy = ''
  for await (const offer of b.offers()) {
    note('FileOffer', offer)
    const accepted = note('AcceptResult', await offer.accept({ saveDir: pathOf(folder, 'inbox') }))
    if (accepted.connection) note('PeerConnection', accepted.connection)
    copy = accepted.filePath
    break
  }
  const result = note('SendResult', await sent)
  const [transfer] = running
  if (!transfer || last !== result.size) throw new Error('no progress was told of')
  note('RunningTransfer', transfer)
  const declined = a.send({ filePath, recipientId: 'b' })
  for await (const offer of b.offers()) {
    a.once('transfer_failed', payload => note('transfer_failed', payload))
    await offer.reject('no')
    break
  }
  const error: unknown = await declined.catch((error: unknown) => error)
  if (!(error instanceof AtsP2pError) || error.code !== 'ATS_P2P_REJECTED') throw error
  note('AtsP2pError', error)
  note('TransferStatus', await a.status(result.taskId))
  const cancelled = a.send({ filePath, recipientId: 'nobody' }).catch(() => null)
  const [{ taskId }] = await once(a, 'offer_sent')
  if ((await a.cancel(taskId)).status !== 'cancelled') throw new Error('it was not cancelled')
  await cancelled
  await a.suspend()
  await a.resume()
  if ((await a.resumeOffers()).length > 0) throw new Error('offers were left')
  return { id: result.transferId, copy }
}

async function known (options: NodeOptions, key: string | null): Promise<void> {
  const used = note('Settings', await settings(options))
  for (const setting of used.settings) note('Setting', setting)
  note('ServiceHealth', await health(options))
  if (note('Whoami', await whoami(options)).identity !== key) throw new Error('somebody else')
  const own = note('Identity', await identity.show(options))
  if (own.identity !== key) throw new Error('another identity')
  const [peer] = await peers.list(options)
  if (!peer) throw new Error('no peer is known')
  note('KnownPeer', peer)
  await peers.accept(peer.actorId, peer.identity, options)
  await peers.forget(peer.actorId, options)
  const seed = await identity.export(options)
  await identity.rotate(options)
  await identity.import(seed, { ...options, replace: true })
  await identity.create({ ...options, replace: true })
}

async function admitted (hub: Hub, data: string, folder: string): Promise<void> {
  const { id } = note('hubKeys.create', await hubKeys.create('c', { data, expiresIn: 60_000 }))
  const [key] = await hubKeys.list({ data })
  if (!key) throw new Error('no key is listed')
  note('HubKey', key)
  await hubKeys.revoke(id, { data })
  const { invitation } = note('hubKeys.invite', await hubKeys.invite('c', { data }))
  note('Joined', await join(hub.url, invitation, { replace: true }))
  await backupHub(pathOf(folder, 'copy.sqlite'), { data })
}

async function main (): Promise<void> {
  const folder = mkdtempSync(pathOf(tmpdir(), 'ats-p2p-types-'))
  try {
    const data = pathOf(folder, 'hub')
    await using hub = note('Hub', await startHub({ listen: '127.0.0.1:0', data }))
    const options = { atsUrl: hub.url, actorId: 'a', home: pathOf(folder, 'a') }
    const a = note('AtsP2pNode', await createNode(options))
    const b = await createNode({ ...options, actorId: 'b', home: pathOf(folder, 'b'), shouldAccept: ({ fileSize }) => fileSize < 1000 })
    const { id, copy } = await transfers(a, b, folder)
    const receipt = note('VerifiedReceipt', await verify({ ...options, id, file: copy }))
    note('Signatory', receipt.sender)
    await known(options, a.publicKey)
    await Promise.all([a.destroy(), b.destroy()])

    await using dht = note('DhtNode', await startDht({ host: '127.0.0.1', port: 0, bootstrap: hub.bootstrap }))
    if (dht.reachable) await dht.reached()
    await using waiting = note('Waiting', await waitForDoctor(options))
    const found = note('Diagnosis', await doctor({ ...options, peer: waiting.key }))
    for (const finding of found.checks) if (finding.advice === undefined) note('Finding', finding)
    for await (const peer of waiting) {
      note('PeerConnection of a doctor', peer)
      break
    }
    // From then on the settings of this user have the key.
    await admitted(hub, data, folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  console.log(JSON.stringify({ version, seen }))
}

main().catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
