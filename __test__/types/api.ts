// Compiled, never run: the declarations must accept what the documentation shows and refuse what is wrong.

import { once } from 'node:events'

import { AtsP2pError, backupHub, createNode, doctor, health, hubKeys, identity, join, peers, settings, startDht, startHub, verify, version, waitForDoctor, whoami, type AcceptResult, type ErrorCode, type FileOffer, type Hub, type JsonValue, type Phase, type RunningTransfer, type SendResult, type ShouldAccept, type TaskId } from '../..'

async function documented (): Promise<void> {
  const node = await createNode({
    atsUrl: 'https://ats.difflab.ai',
    actorId: 'my-agent',
    allowedPeers: ['other-agent'],
    requireVerified: true,
    maxFileSize: 100 * 1024 * 1024,
    timeout: 120000,
    maxConcurrent: 4,
    maxRate: 10 * 1024 * 1024
  })

  const result: SendResult = await node.send({
    filePath: new URL('file:///tmp/x'),
    recipientId: 'other-agent',
    channel: 'p2p-transfer',
    metadata: { kind: 'report', pages: [1, 2] },
    maxRate: 500_000,
    exclude: ['*.map', 'node_modules'],
    gitignore: true,
    signal: AbortSignal.timeout(1000),
    onProgress: ({ bytesSent, totalBytes, phase, bytes, rate, eta }) => {
      const share: number = bytesSent / totalBytes
      const known: [Phase, number, number | null, number | null] = [phase, bytes, rate, eta]
      void [share, known]
    }
  })
  const results = await node.send({
    filePath: 'x',
    recipientIds: ['b', 'c'],
    onProgress: ({ recipientId, bytesSent, all }) => { void [recipientId, bytesSent / all.totalBytes, all.bytesSent] },
    onResult: ({ recipientId, success }) => { void [recipientId, success] }
  })
  for (const each of results) void [each.recipientId, each.success ? each.hash : each.error.code]
  const done: true = result.success
  const id: TaskId = result.taskId
  void [done, id]

  node.on('file', async ({ accept }) => {
    const stream = await accept()
    for await (const chunk of stream) void chunk
    const { hash }: { hash: string } = await stream.result
    const web: ReadableStream<Uint8Array> = (await accept({ stream: true, signal: AbortSignal.timeout(5) })).web()
    const bytes: Buffer = await accept({ buffer: true, maxBytes: 1024 })
    void [hash, web, bytes]
  })
  await node.send({ data: 'text', fileName: 'note.txt', recipientId: 'b' })
  await node.send({ data: new Uint16Array(3), fileName: 'x', recipientId: 'b' })
  await node.send({ data: new Blob(['x']), fileName: 'x', recipientId: 'b' })
  await node.send({ stream: process.stdin, fileName: 'x', recipientId: 'b', maxBytes: Infinity })
  await node.send({ stream: new Blob(['x']).stream(), fileName: 'x', recipientId: 'b' })
  await node.send({ stream: ['a', Buffer.from('b')], fileName: 'x', recipientId: 'b' })
  await node.send({ filePath: 'x', fileName: 'y', recipientId: 'b' })
  await node.send({ filePaths: ['x', Buffer.from('y'), new URL('file:///tmp/z')], fileName: 'y', exclude: ['*.map'], recipientId: 'b' })
  await node.send({ filePaths: ['x', 'y'], recipientIds: ['b', 'c'], metadata: 1 })

  node.watch()
  node.watch({ channel: 'p2p-transfer', saveDir: './incoming', existing: 'skip' })

  node.on('file', async ({ task, fileName, fileSize, fileHash, senderId, peerIdentity, verified, firstUse, metadata, tree, accept, reject }) => {
    const held: [number, number] | undefined = tree && [tree.entries, tree.bytes]
    void held
    const kind: JsonValue | undefined = metadata !== null && typeof metadata === 'object' && !Array.isArray(metadata) ? metadata.kind : undefined
    void kind
    const peer: [string | null, boolean, boolean] = [peerIdentity, verified, firstUse]
    void peer
    const facts: [string, number, string, string] = [fileName, fileSize, fileHash, senderId]
    void [facts, task.id]
    const taken: AcceptResult = await accept('/tmp/x', { overwrite: false, maxRate: 2 ** 20 })
    const hash: string = taken.hash
    await accept({ saveDir: 'in', existing: 'overwrite', maxRate: 1e6 })
    await reject()
    await reject(`no, ${hash}`)
  })
  const path: string | undefined = result.connection?.path
  node.on('peer_connected', ({ transferId, connectMs, rttMs = 0 }) => { const ms: number = connectMs + rttMs; void [transferId, ms, path] })
  node.on('offer_resumed', ({ transferId, taskId, recipientId }) => { void [transferId, taskId, recipientId] })
  node.on('offer_sent', ({ transferId, taskId, fileName, recipientId }) => { void [transferId, taskId, fileName, recipientId] })
  node.once('transfer_start', ({ transferId, taskId, resumedFrom }) => { const moved: number = resumedFrom + result.resumedFrom; void [transferId, taskId, moved] })
  node.on('transfer_progress', ({ transferId, taskId, fileHash, phase, bytes, totalBytes, rate, eta, peerId }) => {
    const task: TaskId | null = taskId
    const hash: string | null = fileHash
    const counts: boolean = phase === 'hashing' || phase === 'transferring'
    const left: number = (rate ?? 0) + (eta ?? 0) + totalBytes - bytes
    void [transferId, task, hash, counts, left, peerId]
  })
  node.on('transfer_complete', ({ filePath }) => { const maybe: string | undefined = filePath; void maybe })
  node.on('transfer_failed', ({ reason, code, metadata }) => { const known: ErrorCode = code; void [reason, known, metadata] })
  node.on('error', (error) => {
    if (error instanceof AtsP2pError && error.code === 'ATS_P2P_ATS_UNREACHABLE') void [error.retryable, error.step]
  })

  await node.suspend()
  await node.resume()
  const { status } = await node.status(result.transferId)
  const { status: ended } = await node.cancel(result.transferId)
  for (const offer of await node.resumeOffers()) void (offer.success ? offer.hash : offer.error.code)
  void [status, ended, await createNode({ resume: true })]
  await node.destroy()
  await using other = await createNode()
  void other
}

async function hub (): Promise<void> {
  const started: Hub = await startHub({ listen: '127.0.0.1:0', data: 'hub', keep: Infinity })
  await backupHub('copy', { data: 'hub', replace: true })
  const url: string = started.url
  const nodes: readonly string[] = started.bootstrap
  void [url, nodes, version.length]
  await started.close()
  await using node = await startDht({ host: '127.0.0.1', port: 0, bootstrap: [...nodes] })
  const [address, known]: [string, number] = [node.address, node.nodes]
  void [address, known, node.reachable, await node.reached()]
}

async function examined (): Promise<void> {
  const { ok, checks } = await doctor({ atsUrl: 'http://127.0.0.1:8787', peer: 'ab'.repeat(32) })
  for (const { check, status, found, advice, facts } of checks) void [check, status, found, advice, facts?.kind, ok]
  const waiting = await waitForDoctor({ actorId: 'a' })
  for await (const { path, connectMs } of waiting) void [path, connectMs, waiting.key]
}

async function known (): Promise<void> {
  const { settings: found, warnings, notes, problem } = await settings({ timeout: 1000 })
  const named: Array<[string, string | null, string | null]> = found.map(({ name, from, variable }) => [name, from, variable])
  const { p2p, ms, status, version: ofHub } = await health()
  const tunnel: boolean | string | undefined = p2p?.tunnel
  const me = await whoami({ organization: 'acme' })
  const taken: boolean | null | undefined = me.key?.accepted
  void [named, warnings, notes, problem, ms.toFixed(), status, ofHub, tunnel, taken, me.sources.actorId?.source === 'default']
  const { identity: key, actorId, seed, kept } = await identity.show({ actorId: 'a', identity: 'elsewhere/seed' })
  const text: string = await identity.export()
  await identity.import(text, { replace: true, home: 'other' })
  await identity.create()
  await identity.rotate()
  for (const { actorId, identity, firstSeen, lastSeen, accepted, refused, former } of await peers.list()) {
    void [actorId, identity, firstSeen, lastSeen, accepted, refused[0]?.at, former]
  }
  await peers.accept('b', key, { atsUrl: 'http://127.0.0.1:8787' })
  await peers.accept('b')
  const forgotten: string | undefined = (await peers.forget('b'))?.identity
  void [actorId, seed, kept, forgotten, await createNode({ identity: false })]
}

async function admitted (): Promise<void> {
  const { id, key } = await hubKeys.create('b', { admin: true, expiresIn: 86_400_000, data: 'hub' })
  const lastUsed: string | null | undefined = (await hubKeys.list())[0]?.lastUsed
  const { invitation, url } = await hubKeys.invite('b')
  const { file, notes } = await join(url ?? 'https://hub.example', invitation, { ca: 'ca.pem', replace: true })
  void [key, lastUsed, file, notes, await hubKeys.revoke(id), await createNode({ ca: 'ca.pem', insecure: true })]
  await startHub({ open: true, trust: ['10.0.0.0/8'], insecure: true, cert: 'cert.pem', keyFile: 'key.pem' })
}

async function proven (): Promise<void> {
  const { sender, receiver, completedAt, fileChecked } = await verify({ id: 7, file: 'x', atsUrl: 'http://127.0.0.1:8787' })
  const by: [string, boolean, string | null] = [sender.identity, receiver.own, completedAt]
  void [by, fileChecked, await verify({ receipt: new URL('file:///tmp/receipt.json') }), await createNode({ keepReceipts: 0, hashCache: false })]
}

async function iterated (): Promise<void> {
  const signal = new AbortController().signal
  const shouldAccept: ShouldAccept = async ({ senderId, fileSize, channel }) => fileSize < 1000 || `no, ${senderId}, not on ${channel}`
  const node = await createNode({ shouldAccept })
  node.watch({ channel: 'x', shouldAccept: () => true })
  const key: string | null = node.publicKey
  for await (const { fileName, senderId, accept } of node.offers({ channel: 'x', signal })) {
    const { filePath }: AcceptResult = await accept({ saveDir: 'in' })
    void [fileName, senderId, filePath]
  }
  await using offers = node.offers()
  const first: IteratorResult<FileOffer> = await offers.next()
  const phases: RunningTransfer['phase'][] = node.transfers().map(({ phase }) => phase)
  void [key, first, phases]
}

async function heard (): Promise<void> {
  const node = await createNode()
  const started = ({ transferId }: { transferId: string }): void => { void transferId }
  node.on('transfer_start', started).off('transfer_start', started)
  node.prependListener('transfer_start', started)
  const [offer] = await once(node, 'file') as [FileOffer]
  const isHeard: boolean = node.emit('error', new Error(offer.fileName))
  const count: number = node.listenerCount('file')
  const listeners = node.listeners('disconnected')
  listeners[0]?.({ reason: 'x' })
  void [isHeard, count]
  // @ts-expect-error no such event
  node.on('files', () => {})
  // @ts-expect-error the payload has no such key
  node.on('transfer_start', ({ path }) => { void path })
  // @ts-expect-error a listener of another event
  node.once('disconnected', started)
  // @ts-expect-error a payload of another event
  node.emit('disconnected', { transferId: 'x' })
  // @ts-expect-error no payload
  node.emit('connected')
  // @ts-expect-error what is offered has no path before it is accepted
  node.on('file', ({ filePath }) => { void filePath })
}

/** Each line that must be refused says so; where it is not, that is an error. */
async function refused (): Promise<void> {
  const node = await createNode()
  // @ts-expect-error no recipient
  await node.send({ filePath: 'x' })
  // @ts-expect-error no file
  await node.send({ recipientId: 'b' })
  // @ts-expect-error a mistyped option
  await node.send({ filePath: 'x', recipentId: 'b' })
  // @ts-expect-error an option of another call
  await node.send({ filePath: 'x', recipientId: 'b', saveDir: 'in' })
  // @ts-expect-error of a stream nothing says what it is called
  await node.send({ stream: ['x'], recipientId: 'b' })
  // @ts-expect-error one of two
  await node.send({ filePath: 'x', filePaths: ['x'], recipientId: 'b' })
  // @ts-expect-error several, if but one
  await node.send({ filePaths: 'x', recipientId: 'b' })
  // @ts-expect-error one of two
  await node.send({ filePath: 'x', stream: ['x'], fileName: 'x', recipientId: 'b' })
  // @ts-expect-error the controller is no signal
  await node.send({ filePath: 'x', recipientId: 'b', signal: new AbortController() })
  // @ts-expect-error a size is a number
  await createNode({ maxFileSize: '100' })
  // @ts-expect-error undefined is no value
  await createNode({ actorId: undefined })
  // @ts-expect-error one peer is no list
  await createNode({ allowedPeers: 'b' })
  // @ts-expect-error it gives no decision
  await createNode({ shouldAccept: () => {} })
  // @ts-expect-error a number decides nothing
  node.watch({ shouldAccept: async () => 1 })
  // @ts-expect-error only offers that it accepts are saved
  node.offers({ saveDir: 'in' })
  // @ts-expect-error an identity is read
  node.publicKey = 'x'
  // @ts-expect-error it takes no id
  node.transfers('x')
  // @ts-expect-error an id is needed
  await node.status()
  node.on('file', async ({ accept, reject }) => {
    // @ts-expect-error a stream has no such limit
    await accept({ stream: true, maxBytes: 5 })
    // @ts-expect-error a path needs no folder
    await accept('x', { saveDir: 'in' })
    // @ts-expect-error a reason is text
    await reject(5)
    // @ts-expect-error the result has no such key
    void (await accept('x')).path
  })
  // @ts-expect-error who listens there
  await startHub({ listen: 8787 })
  // @ts-expect-error nobody is served by such a relay
  await startHub({ relay: 'everybody' })
  // @ts-expect-error for how long
  await hubKeys.create('b', { expiresIn: '1h' })
  // @ts-expect-error which transfer
  await verify()
  // @ts-expect-error its messages are for people
  new AtsP2pError('x', { code: 5 })
  // @ts-expect-error a file is needed
  await backupHub()
  // @ts-expect-error a hub is made by startHub
  const hub: Hub = new Hub()
  // @ts-expect-error no such name is exported
  const other: typeof import('../..').createNodes = null
  void [hub, other]
}

void [documented, iterated, heard, examined, known, hub, refused, admitted, proven]
