import { EventEmitter } from 'node:events'
import { Readable } from 'node:stream'

/** This package's version. */
export declare const version: string

/**
 * Makes a node: one agent's end, which sends files and receives them. Neither the task service nor the
 * network is needed for this; the first call that needs them reports what is wrong with them.
 *
 * Rejects with a `TypeError` (`code` `ATS_P2P_INVALID_ARGUMENT`) for an option of the wrong kind. An option that is
 * unknown, to this call or to any other, is passed over, with a warning of the process (`ATS_P2P_UNKNOWN_OPTION`) that
 * names the nearest known one. URLs and signals of other realms, and polyfills of them, are taken too.
 */
export declare function createNode(options?: NodeOptions): Promise<AtsP2pNode>

/**
 * Starts a task service and a private DHT in this process, for one machine or for a team: agents whose
 * `atsUrl` (or `ATS_URL`) is the hub's use nothing else.
 */
export declare function startHub(options?: HubOptions): Promise<Hub>

/**
 * Copies a hub's SQLite database to a file, while the hub runs or not: whole or not at all, readable by its owner
 * alone. As `hub.sqlite` in a data folder it serves as that hub's data. Rejects with `ATS_P2P_STATE` where there is such
 * a file, unless `replace` is true, and where the hub has PostgreSQL, of which `pg_dump` makes backups.
 */
export declare function backupHub(file: string | URL, options?: HubDataOptions & { replace?: boolean }): Promise<void>

/**
 * Runs a node of the DHT for others in this process: without `bootstrap` the first one of a private network.
 * Resolves once it has looked around.
 */
export declare function startDht(options?: DhtOptions): Promise<DhtNode>

/**
 * Looks at all that transfers need: settings, state folder, disk, task service (requests, events, clock), peer
 * network and NAT, and with `peer` at the way to another machine. Each check is bounded in time; together they
 * take at most half a minute or so, and a second or two where all is well.
 *
 * Resolves also where much is wrong: that is the result. Rejects with a `TypeError` for an option of the wrong
 * kind.
 */
export declare function doctor(options?: DoctorOptions): Promise<Diagnosis>

/**
 * Waits on the peer network for the doctor of another machine, whose `peer` is the `key` of what this resolves
 * with.
 */
export declare function waitForDoctor(options?: NodeOptions & CallOptions): Promise<Waiting>

/**
 * What a node with these options would use, and who says so of each: nothing is a secret in it. It opens no
 * connection.
 */
export declare function settings(options?: NodeOptions): Promise<Settings>

/**
 * Asks the task service how it is, once, for at most five seconds. Rejects with `ATS_P2P_ATS_UNREACHABLE`,
 * `ATS_P2P_ATS_ERROR` or `ATS_P2P_ATS_PROTOCOL` where it does not answer, or is not well.
 */
export declare function health(options?: NodeOptions & CallOptions): Promise<ServiceHealth>

/**
 * Who a node with these options is: to the task service, and to its peers. Where a key is set, the service is asked
 * whose it is; that it does not answer is in the result.
 */
export declare function whoami(options?: NodeOptions & CallOptions): Promise<Whoami>

/**
 * Who this user's nodes are to others. Every actor in every project has an identity of its own, a key, and all
 * of them are derived from one secret, the seed, which is made when it is needed first.
 */
export declare const identity: {
  /** The identity of a node with these options. */
  show(options?: NodeOptions): Promise<Identity>

  /**
   * The seed as text, for another machine of the same user: two machines with seeds of their own are two
   * identities. Whoever reads it can pass for this user.
   */
  export(options?: NodeOptions): Promise<string>

  /**
   * Takes over the seed that `export` gave elsewhere. Rejects with `ATS_P2P_ALREADY_EXISTS` where there is another
   * one, unless told to `replace` it; then the old one is `kept` beside.
   */
  import(seed: string, options?: NodeOptions & { replace?: boolean }): Promise<Identity>

  /** Makes a new seed, in place of one that was lost to others: `replace`. All identities are new ones then. */
  create(options?: NodeOptions & { replace?: boolean }): Promise<Identity>

  /**
   * Makes a new seed that the old one hands over to: who knows one of the old identities accepts the new one by its
   * word. It is no help where the old seed was lost to others, who could hand over too.
   */
  rotate(options?: NodeOptions): Promise<Identity>
}

/** Whom this user's nodes know. A node that runs sees what is changed here. */
export declare const peers: {
  /** The actors that are known in the project of these options. */
  list(options?: NodeOptions): Promise<KnownPeer[]>

  /**
   * Accepts an identity of an actor, in place of any other; the actor need not have been met. Without `identity`
   * the one that it showed since and that was refused, if that was only one.
   */
  accept(actorId: string, identity?: string | null, options?: NodeOptions): Promise<KnownPeer>

  /** Forgets an actor, whose next identity is taken on faith; resolves with what was known of it. */
  forget(actorId: string, options?: NodeOptions): Promise<KnownPeer | null>
}

/**
 * Who may use a hub of this machine from elsewhere. The hub may run or not; one that runs, in whichever process,
 * knows of each change at once.
 */
export declare const hubKeys: {
  /** Makes a key for an actor. It is in what this resolves with, and kept nowhere: the hub keeps its hash. */
  create(actorId: string, options?: HubKeyOptions): Promise<{ id: number, key: string, actorId: string }>

  /** The keys that were made, the revoked ones too, without what they are. */
  list(options?: HubDataOptions): Promise<HubKey[]>

  /** Ends a key at once: requests with it are refused, and its event streams cut. Null if there is none of that id. */
  revoke(id: number, options?: HubDataOptions): Promise<HubKey | null>

  /**
   * Invites an actor: what this resolves with can be taken once within an hour, by `ats-p2p join` or {@link join}, and
   * gives a key. `url` is where the hub was called when it was last started, if it ever was.
   */
  invite(actorId: string, options?: HubKeyOptions): Promise<{ invitation: string, actorId: string, expiresAt: string, url: string | null }>
}

/**
 * Takes a hub's invitation, and keeps the URL, the key and the actor id in `~/.ats/config`, for this user alone to
 * read. All else in there stays; where another service is configured, only `replace` puts the hub in its place.
 */
export declare function join(url: string | URL, invitation: string, options?: JoinOptions): Promise<Joined>

export interface HubDataOptions {
  /** Folder of the hub's database and all else that lasts. Default: `hub` in the user's state folder. */
  data?: string | URL
  /**
   * PostgreSQL database of the hub's tasks and keys, `postgres://USER@HOST/DATABASE`, which several hubs may share.
   * Default: what `databaseFile` holds, else `ATS_P2P_DATABASE`, else none: a file in `data`.
   */
  database?: string
  /** File that holds that URL, so that its password stands in no argument list. */
  databaseFile?: string | URL
}

export interface HubKeyOptions extends HubDataOptions {
  /** Whether the key sees and changes the tasks of all. Default: false. */
  admin?: boolean
  /** How long the key holds, in milliseconds. Default: for ever. */
  expiresIn?: number
}

/** What a hub knows of a key. Times are in RFC 3339. */
export interface HubKey {
  /** By which it is revoked. */
  id: number
  /** The one actor that it speaks for. */
  actorId: string
  admin: boolean
  createdAt: string
  expiresAt: string | null
  revokedAt: string | null
  /** Within ten seconds. */
  lastUsed: string | null
}

export interface JoinOptions extends CallOptions {
  /** A file of certificate authorities that are trusted besides the system's, in PEM; it is kept too. */
  ca?: string | URL
  /** Send the invitation, and later the key, over plain HTTP to another machine. Default: false. */
  insecure?: boolean
  /** Put the hub in the place of another service, actor or key. Default: false. */
  replace?: boolean
}

export interface Joined {
  url: string
  actorId: string
  /** The file that has the key now. */
  file: string
  /** Settings elsewhere that come first, a sentence each. */
  notes: string[]
}

/**
 * Checks the receipt of a transfer: the offer as its sender signed it, and the completion as its receiver did, by the
 * identities that are known here. With `file`, that file is compared with it too.
 *
 * Rejects with `ATS_P2P_NO_RECEIPT` where there is nothing that both have signed, as with an original;
 * `ATS_P2P_IDENTITY` where it is not what was signed, or not by an identity that is known; `ATS_P2P_INTEGRITY` where
 * the file is another one.
 */
export declare function verify(options: VerifyOptions): Promise<VerifiedReceipt>

/** What `verify` takes: the options of the node, and one of `id` and `receipt`. */
export interface VerifyOptions extends NodeOptions, CallOptions {
  /** A transfer or its task. Where the task service has forgotten it, the receipt that is kept here is looked at. */
  id?: TaskId
  /** The file of a receipt, as it is kept in `receipts` of the state folder. */
  receipt?: LocalPath
  /** A file that should be the one that was sent, or a folder, as it was sent whole or as it arrived. */
  file?: LocalPath
}

/** What both ends of a transfer have signed. */
export interface VerifiedReceipt {
  transferId: string
  taskId: TaskId
  /** As it was offered, escaped. */
  fileName: string
  fileSize: number
  fileHash: string
  sender: Signatory
  receiver: Signatory
  /** In RFC 3339, by the sender's clock. */
  offeredAt: string | null
  /** In RFC 3339, by the receiver's clock. */
  completedAt: string | null
  durationMs: number
  /** Whether `file` was given, and is the file. */
  fileChecked: boolean
}

/** Who signed one half of a receipt. */
export interface Signatory {
  actorId: string
  identity: string
  /** Whether this user did; else it is an identity that is known. */
  own: boolean
}

/** Who a node is to others. */
export interface Identity {
  /** A key, 64 hex digits; null where the options say that there is to be none. */
  identity: string | null
  /** The actor whose identity it is, and the place where that actor is: it has another one elsewhere. */
  actorId: string
  atsUrl: string
  organization: string
  project: string
  /** Path of the seed. */
  seed: string | null
  /** Path of the seed before, where one was replaced. */
  kept?: string
}

/** An actor that was met. */
export interface KnownPeer {
  actorId: string
  /** The identity that is accepted, and no other: 64 hex digits. */
  identity: string
  /** Since when, in RFC 3339. */
  firstSeen: string
  /** When a transfer with it was verified last, to the hour. */
  lastSeen: string
  /** Whether it was accepted by hand; else it was the first one that was met. */
  accepted: boolean
  /** Other identities that the actor showed since, which were refused. */
  refused: Array<{ identity: string, at: string }>
  /** Those before, and when each handed over to the next. */
  former: Array<{ identity: string, at: string }>
}

/** What a node would use. */
export interface Settings {
  settings: Setting[]
  /** What is wrong with settings files, and with keys that are left out: a sentence each. */
  warnings: string[]
  /** Where these settings may not be what a user of the `ats` command expects: a sentence each. */
  notes: string[]
  /** Why no request can be made with these settings; null if one can. */
  problem: string | null
}

/** One setting: an option of `NodeOptions`, `database` of a hub, or a proxy. */
export interface Setting {
  name: string
  /** What holds, in the form of the option; a secret is masked. Null where nothing does. */
  value: string | number | boolean | string[] | null
  /** Who says so: the caller, the environment, the settings file of the project or of the user, or nobody. */
  source: SettingSource
  /** The environment variable or the path of the file that says so. */
  from: string | null
  /** The environment variable that can say it. */
  variable: string | null
  /** The field of a settings file that can. */
  field: string | null
}

export type SettingSource = 'option' | 'environment' | 'project' | 'user' | 'default'

/** What a task service says of itself. */
export interface ServiceHealth {
  atsUrl: string
  /** In its own words, usually `ok`. */
  status: string | null
  /** Of a hub, where it lets the caller in. */
  version: string | null
  /** How long the answer took. */
  ms: number
  /** What a hub offers besides tasks; null of any other service. */
  p2p: {
    /** Nodes of its DHT, `host:port` each. */
    bootstrap: string[]
    /** Public key of its relay, in hex. */
    relay: string | null
    /** Whether it has a tunnel, or the address of that. */
    tunnel: boolean | string
  } | null
}

/** Who a node is. */
export interface Whoami {
  actorId: string
  actorType: string
  actorName: string
  organization: string
  project: string
  atsUrl: string
  /** A key, 64 hex digits; null where the options say that there is to be none. */
  identity: string | null
  /** Path of the seed behind it. */
  seed: string | null
  /** What the service says of the key that is set; null where none is. */
  key: {
    /** Whether it is taken for this actor's; null where the service does not say. */
    accepted: boolean | null
    /** Whom it speaks for, if the service says so. */
    actorId: string | null
    /** Why it is not taken, or why nobody knows. */
    reason: string | null
    /** Where the service was not reached, as of an error. */
    code?: ErrorCode
  } | null
  /** Who says so of each of the first six. */
  sources: Record<string, { source: SettingSource, from: string | null }>
}

/** What `doctor` takes: the options of the node that is in trouble, and whom to reach. */
export interface DoctorOptions extends NodeOptions, CallOptions {
  /** The key, 64 hex digits, of a machine where `waitForDoctor` or `ats-p2p doctor --wait` runs. */
  peer?: string
}

export interface Diagnosis {
  /** Nothing stands in the way of transfers: no check failed. */
  ok: boolean
  checks: Finding[]
  /** How files would go, the best way first; in the words of `ConnectionInfo.path`. None where nothing would carry. */
  ways: Array<'direct' | 'punched' | 'relayed' | 'tunnel'>
}

/** What one check found. */
export interface Finding {
  check:
    | 'settings' | 'state' | 'identity' | 'disk' | 'addresses' | 'proxy' | 'certificate' | 'service' | 'events'
    | 'clock' | 'network' | 'nat' | 'mtu' | 'relay' | 'tunnel' | 'peer'
    | (string & {})
  /** `warning`: transfers work, but not always. `skipped`: it could not be looked at, because of another one. */
  status: 'ok' | 'warning' | 'failed' | 'skipped'
  /** A sentence for people. */
  found: string
  /** What to do, where there is something to do. */
  advice?: string
  /** How long the check took, where it asked others. */
  ms?: number
  /** The same for programs: sources of the settings, kind of NAT, difference of the clocks, … */
  facts?: Record<string, unknown>
}

/** A place on the peer network that others find by its key. Yields each peer that has come. */
export interface Waiting extends AsyncIterable<PeerConnection>, AsyncDisposable {
  /** 64 hex digits. */
  readonly key: string
  /** Ends it, and the iteration. May be called again. */
  close(): Promise<void>
}

/**
 * What `createNode` takes. What is not given here comes from the environment, then from the project's
 * `.ats/config`, then from `~/.ats/config`, then from the default.
 */
export interface NodeOptions {
  /** The task service. Environment: `ATS_URL`. Default: `https://ats.difflab.ai`. */
  atsUrl?: string | URL
  /** The organization that the tasks belong to. Environment: `ATS_ORG`. */
  organization?: string
  /** The project that the tasks belong to. Environment: `ATS_PROJECT`. */
  project?: string
  /**
   * The channel of `send` and `watch` where they name none. Environment: `ATS_P2P_CHANNEL`; in files `p2p.channel`.
   * Default: `p2p-transfer`.
   */
  channel?: string
  /** Who this node is to others. Environment: `ATS_ACTOR_ID`. Default: `p2p-node`. */
  actorId?: string
  /** What kind of actor this node is. Environment: `ATS_ACTOR_TYPE`. Default: `agent`. */
  actorType?: string
  /** A name for people to read. Environment: `ATS_ACTOR_NAME`. Default: the actor id. */
  actorName?: string
  /** Key for a task service that asks for one. Environment: `ATS_API_KEY`. */
  apiKey?: string
  /**
   * A file of certificate authorities that are trusted besides the system's, in PEM. Environment: `ATS_P2P_CA`; in
   * `~/.ats/config`, not in a project's, `p2p.ca`.
   */
  ca?: string | URL
  /**
   * Send the key over plain HTTP to another machine too, where anybody on the way can read it. Without, that is
   * refused. Environment: `ATS_P2P_INSECURE=1`; in `~/.ats/config`, not in a project's, `p2p.insecure`. Default: false.
   */
  insecure?: boolean
  /**
   * The only actors from whom files are taken, each an actor id or `actor=identity` with the 64 hex digits that
   * `ats-p2p id` shows there; an empty list takes from nobody. An actor whose identity is named may show no other,
   * as a recipient too. Default: anyone.
   */
  allowedPeers?: string[] | null
  /**
   * Refuse peers that show no identity: older versions, those of the original package, nodes with
   * `identity: false`. Default: false.
   */
  requireVerified?: boolean
  /**
   * Largest file that is taken, in bytes; `Infinity` for no limit. Of a folder it is what it may take on a disk: its
   * archive, and 4096 bytes for each file, folder and link. Default: no limit.
   */
  maxFileSize?: number | null
  /**
   * Bytes a second that all transfers of this node together move at most, sent and received, at least 1024. Peers that
   * move at the same time have equal parts of it, and so have the transfers with each of them; what one does not use is
   * the others'. Environment: `ATS_P2P_MAX_RATE`, where `500K` is 500 × 1024, `1.5M` 1.5 × 1024², `2MB` 2,000,000.
   * Default: no limit.
   *
   * What is sent goes at this rate from the first byte. What is received is taken at this rate, and the sender slowed
   * down by that: it is ahead by what half a second takes, or 64 KiB; through a tunnel, and where the original package
   * sends, by all that lies in buffers on the way, which may be some MiB.
   */
  maxRate?: number | null
  /**
   * Longest wait for the other side, in milliseconds: for the offer to be accepted, for the connection, for
   * the next byte. It never ends a slow transfer that moves: one that moved less than 4 KiB in this time, while more
   * remained, has stalled (`ATS_P2P_STALLED`). Default: 120000.
   */
  timeout?: number
  /**
   * Nodes of the DHT to start from, each `host:port`. Environment: `ATS_P2P_BOOTSTRAP`, with commas.
   * Default: what the task service names, else the public network.
   */
  bootstrap?: string[]
  /**
   * The relay that connections go through where no direct way opens, by its public key in hex or z-base-32;
   * `'none'` for none. It sees ciphertext only. Default: `'hub'`, that of the hub which names the DHT nodes.
   */
  relayThrough?: string
  /**
   * Where peers are met that UDP does not lead to: `true` is the tunnel of the task service, if it is a hub with one;
   * the address of another hub's tunnel (`wss://…`) is for agents on a service without; `false` is none. Both ends
   * must use the same, and the hub sees keys, sizes and times alone. Peers that run the original package can't be
   * met there. Environment: `ATS_P2P_TUNNEL`, an address or `none`. Default: true.
   */
  tunnel?: boolean | string | URL
  /** Where this user's state is kept. Environment: `ATS_P2P_HOME`. Default: `~/.ats-p2p`. */
  home?: string | URL
  /** Put before the transfer id when its topic is derived, for networks that differ in this. Default: empty. */
  topicPrefix?: string
  /** How long an offer without a date of expiry may have waited to be taken, in milliseconds. Default: 600000. */
  maxOfferAge?: number
  /**
   * How long what an interrupted transfer has left on this disk is kept, to be gone on with, in milliseconds.
   * Default: 604800000, 7 days.
   */
  maxPartialAge?: number
  /**
   * Files that are received at once, from 1 to 256; the offers of the rest wait unclaimed. One actor gets three
   * quarters of the places at most. A transfer whose sender does not come, or that moves less than 32 KiB a second,
   * keeps none from others: up to 64 such ones go on beside them. Default: 16.
   */
  maxConcurrent?: number
  /**
   * Go on, from the start, with the files that earlier processes of this agent offered from the same `home`: as
   * {@link AtsP2pNode.resumeOffers} does. Default: false.
   */
  resume?: boolean
  /**
   * Decides about each offer that `allowedPeers`, `requireVerified` and `maxFileSize` let pass, before it is taken or
   * told of. Default: all are taken or told of.
   */
  shouldAccept?: ShouldAccept
  /** Send to whoever claims the offer, not only to its recipient. Default: false. */
  anyClaimant?: boolean
  /**
   * The seed that this node's identity is derived from: the path of one that exists; `false` for no identity.
   * Default: the one in `home`, which is made where it is missing.
   */
  identity?: string | URL | boolean
  /** How many receipts of transfers are kept in `home`, the newest; 0 for none. Default: 100. */
  keepReceipts?: number
  /**
   * Whether a file's permission bits and time of modification are told where it is sent, and kept where it arrives.
   * With `false` it arrives like any new file, but never open to more than its source.
   * @default true
   */
  preserve?: boolean
  /**
   * Whether the hashes of files that were sent are remembered in `home`, so that a file which is sent again need not be
   * read for that. It counts only while size and times of the file are the same, on a disk of this machine, and what is
   * sent is held to it. Turn it off where files change in ways that their times do not show, as through a memory map.
   * @default true
   */
  hashCache?: boolean
}

/** One agent's end of transfers. Ends by {@link AtsP2pNode.destroy}. */
export interface AtsP2pNode extends EventEmitter<NodeEvents>, AsyncDisposable {
  /**
   * Offers a file and sends it once the recipient has accepted. Resolves when the recipient has verified it
   * and put it in its place.
   *
   * Rejects with an {@link AtsP2pError}; a `transfer_failed` event has been emitted by then, if the offer
   * had been made.
   */
  send(options: SendOptions): Promise<SendResult>
  /**
   * Sends to several at once, to each by a transfer of its own. The file is hashed once. Resolves when the last of
   * them has ended, with what became of each, in the order of `recipientIds`: one that fails fails for itself alone, and
   * so does each by `signal`.
   *
   * Rejects for what concerns all: arguments, a file that cannot be opened, `ATS_P2P_DESTROYED`, and a `signal` that was
   * aborted before the file was open.
   */
  send(options: SendToAllOptions): Promise<RecipientResult[]>

  /**
   * Looks for offers to this actor, those already waiting included. With `saveDir` each is accepted into that
   * folder; without, each becomes a `file` event.
   *
   * Throws if the folder cannot be made, or the state in `home` not be kept. Trouble that comes later declines
   * nobody's offer: what is offered waits, is tried again, and a `process` warning says why, once. A service that is
   * not reached is told by `disconnected`, and tried again.
   */
  watch(options?: WatchOptions): void

  /**
   * The offers to this actor on a channel, those already waiting included, one after another: `for await (const offer
   * of node.offers())`. It begins when the first one is asked for, and ends on `break`, when `signal` aborts and when
   * the node is destroyed. Several iterations of a channel share its offers: each goes to one of them.
   *
   * Offers that come meanwhile wait, unclaimed, for the next turn or the next iteration; one that is withdrawn by then
   * is left out. What nobody takes ends when its sender gives up. A node has at most 1024 offers open, and leaves the
   * rest on the service until there is room. Each is a `file` event too, so use one of the two.
   *
   * The node's `error` is thrown here where nobody listens to it.
   */
  offers(options?: OffersOptions): AsyncIterableIterator<FileOffer> & AsyncDisposable

  /**
   * The transfers that are under way now, in both directions, and those that wait for their turn or their peer; the
   * oldest first. Offers that nobody here has accepted are not among them.
   */
  transfers(): RunningTransfer[]

  /**
   * This node's identity, 64 hex digits: what its peers see as `peerIdentity`. Null where it has none (`identity:
   * false`). It belongs to the actor id, the task service, the organization and the project, so that the same user has
   * another one elsewhere. The first use makes the seed that it is derived from where there is none, and throws
   * `ATS_P2P_STATE` where that can't be read or made.
   */
  readonly publicKey: string | null

  /** What is known of a transfer, by its transfer id or its task id. */
  status(id: string | number, options?: CallOptions): Promise<TransferStatus>

  /**
   * Goes on with the offers that earlier processes of this agent made, from the same `home`, and did not see the
   * end of: those whose file is unchanged are sent, what others do about them is told by the events of a transfer.
   * One that has ended meanwhile is told by what it came to. Resolves once all have ended. Offers whose time was over
   * are withdrawn and not among the results. An offer that another process goes on with is left to it.
   */
  resumeOffers(options?: CallOptions): Promise<ResumedOffer[]>

  /**
   * Ends a transfer, by its transfer id or its task id: one that runs in this process, or one of another process
   * that this agent offered or accepted. Resolves with what is known of it then; a transfer that was over stays as
   * it is.
   */
  cancel(id: string | number, options?: CallOptions): Promise<TransferStatus>

  /**
   * Leaves the peer network for a while: connections end, sockets are closed, nothing is announced. Transfers
   * under way wait, whatever their `timeout`; their claims are kept, and offers go on being noticed. Not needed
   * for a machine that sleeps or changes its network: a node notices that by itself.
   */
  suspend(): Promise<void>

  /** Comes back to the peer network. Transfers that wait connect again and begin anew. */
  resume(): Promise<void>

  /**
   * Ends everything: transfers under way fail with `ATS_P2P_ABORTED`, offers that nobody accepted are
   * withdrawn, sockets are closed. May be called again. Nothing of the node keeps the process alive after it.
   *
   * A worker thread or a process that ends without it, by `process.exit()`, `terminate()` or an error, ends its nodes
   * too, and is held up by that for half a second at most; what takes longer goes on as long as the process does.
   */
  destroy(): Promise<void>

  [Symbol.asyncDispose](): Promise<void>
}

/** What calls take that wait for others. */
export interface CallOptions {
  /** Ends the call; it then rejects with `ATS_P2P_ABORTED`. */
  signal?: AbortSignal
}

/** Bytes of any kind; text goes as UTF-8. */
export type Bytes = string | ArrayBuffer | NodeJS.ArrayBufferView

/** What `send` sends: a file on the disk, several of them as one, bytes in memory, or a stream. */
export type SendOptions = SendFileOptions | SendFilesOptions | SendDataOptions | SendStreamOptions

export interface SendFileOptions extends CommonSendOptions {
  /**
   * The file, or the folder; a relative path is taken from the current folder. A folder goes as one archive that is
   * made while it is sent, and a node unpacks it while it comes; a peer of the original package gets `NAME.tar`.
   * Permissions, times to the second, empty folders and links go along. A link that leads out of the folder, a pipe, a
   * socket, a device or a name that is not UTF-8 is refused with `ATS_P2P_NOT_A_FILE`, which names it.
   */
  filePath: LocalPath
  /** Of a folder: what is left out, by patterns as in a `.gitignore` at its top. */
  exclude?: string[]
  /** Of a folder: whether the `.gitignore` files in it count, and `.git` is left out. Default: false. */
  gitignore?: boolean
  /** What it is to be called at its recipient. Default: the last part of the path. */
  fileName?: string
  filePaths?: undefined
  data?: undefined
  stream?: undefined
  maxBytes?: undefined
}

export interface SendFilesOptions extends CommonSendOptions {
  /**
   * Files and folders, at least one, as one offer. They go as a folder does, in one that is made up for them, each by the
   * last part of its path: they are accepted to one path, and stand there all at once, or not at all. In whichever order
   * they are named, they have the same hash. What is named twice goes once; two of one name are refused with
   * `ATS_P2P_INVALID_ARGUMENT`, and a pipe, a socket or a device with `ATS_P2P_NOT_A_FILE`. Of a link that is named it
   * goes what it leads to. One alone is sent as `filePath` is.
   */
  filePaths: LocalPath[]
  /** Of each folder: what is left out, by patterns as in a `.gitignore` at its top. */
  exclude?: string[]
  /** Of each folder: whether the `.gitignore` files in it count, and `.git` is left out. Default: false. */
  gitignore?: boolean
  /** What their folder is to be called at its recipient. Default: a name made of one of theirs, `a.jpg and 2 more`. */
  fileName?: string
  filePath?: undefined
  data?: undefined
  stream?: undefined
  maxBytes?: undefined
}

export interface SendDataOptions extends CommonSendOptions {
  /**
   * The content: bytes, which are copied once before `send` returns its promise, or a Blob or File, which is kept as a
   * stream is. An offer of it ends with its process: `resumeOffers` withdraws it.
   */
  data: Bytes | Blob
  /** What it is to be called: a name, and no path. Required, unless `data` is a File, which has one. */
  fileName?: string
  filePath?: undefined
  filePaths?: undefined
  stream?: undefined
  maxBytes?: undefined
}

export interface SendStreamOptions extends CommonSendOptions {
  /**
   * The content: a Node.js `Readable`, a web `ReadableStream`, or any iterable of bytes or strings, async or not.
   *
   * An offer says the hash of what it offers, so that the stream is read to its end before. It is kept meanwhile in a
   * file without a name in the system's temporary folder (`TMPDIR`, on Windows `TEMP`), which nobody else can open and
   * which is gone with the process, however that ends. No chunk is asked for before the last one is kept.
   *
   * Its error rejects `send` with `ATS_P2P_NOT_READABLE` and itself as `cause`; `signal`, and what else ends `send`
   * before its end, destroys it. One that was destroyed or read before is refused. An offer of it ends with its process:
   * `resumeOffers` withdraws it.
   */
  stream: NodeJS.ReadableStream | ReadableStream<Bytes> | AsyncIterable<Bytes> | Iterable<Bytes>
  /** What it is to be called: a name, and no path. */
  fileName: string
  /**
   * Most bytes that are kept of it; more reject with `ATS_P2P_TOO_LARGE`. Infinity for as many as the disk has room
   * for. Default: 10 GiB.
   */
  maxBytes?: number
  filePath?: undefined
  filePaths?: undefined
  data?: undefined
}

export interface CommonSendOptions {
  /** The actor who is to have it. */
  recipientId: string
  /** Default: the node's channel. */
  channel?: string
  /** In milliseconds. Default: the node's. */
  timeout?: number
  /**
   * Makes this the same as every other send of this actor with this key: one delivery comes of all of them. While one
   * runs, in whichever process of this home, another waits for it and has its outcome. Once the file was delivered, it
   * resolves with what the first one came to, and `replayed`; nothing is sent. What a process that died has left is gone
   * on with. After a failure the file is offered anew, once it is certain that it was not delivered. Another file,
   * recipient or channel, or other `metadata`, is refused with `ATS_P2P_KEY_REUSED`. Keys are remembered for 7 days
   * after their last use, and beyond that as long as the task service finds the transfer: a hub among its latest 5,000
   * tasks.
   */
  idempotencyKey?: string
  /**
   * Something to say of the file: any value that `JSON.stringify` takes, of at most 4096 bytes and 127 levels as JSON.
   * The recipient is shown it with the offer, and in the events of the transfer. It is signed with the offer where this
   * node has an identity, and goes by the task service, which can read it like the file's name; recipients that run the
   * original package do not see it. Default: nothing, as with null.
   */
  metadata?: unknown
  /** Bytes a second that this transfer moves at most, at least 1024, within the node's `maxRate`. Default: that. */
  maxRate?: number
  /**
   * Called at most ten times a second, and at each change of phase: from the hashing of the file on, before it is
   * offered. The last call says that all bytes are sent.
   */
  onProgress?: (progress: Progress) => void
  /** Withdraws the offer or ends the transfer; `send` then rejects with `ATS_P2P_ABORTED`. */
  signal?: AbortSignal
}

/**
 * What goes to several, and to whom. `maxRate` holds for each of them. An idempotency key stands for one transfer, and
 * does not go with several recipients.
 */
export type SendToAllOptions =
  | (Omit<SendFileOptions, 'recipientId' | 'idempotencyKey' | 'onProgress'> & SeveralRecipients)
  | (Omit<SendFilesOptions, 'recipientId' | 'idempotencyKey' | 'onProgress'> & SeveralRecipients)
  | (Omit<SendDataOptions, 'recipientId' | 'idempotencyKey' | 'onProgress'> & SeveralRecipients)
  | (Omit<SendStreamOptions, 'recipientId' | 'idempotencyKey' | 'onProgress'> & SeveralRecipients)

export interface SeveralRecipients {
  /** The actors who are to have it, at least one. Whoever is named twice has it once, and one result at both places. */
  recipientIds: string[]
  /** Called for each recipient as for a single one, with how much of all was sent besides. */
  onProgress?: (progress: RecipientProgress) => void
  /** Called once for each recipient, as soon as it is known what became of it. */
  onResult?: (result: RecipientResult) => void
}

/** How far the transfer to one of several recipients is, and all together. */
export interface RecipientProgress extends Progress {
  recipientId: string
  /** Bytes that are sent to all, and due to all. */
  all: { bytesSent: number, totalBytes: number }
}

/** What became of the transfer to one of several recipients. */
export type RecipientResult = { recipientId: string } & (SendResult | { success: false, error: AtsP2pError })

/** What became of an offer that was taken up again. */
export type ResumedOffer = { fileName: string, recipientId: string } & (
  | SendResult
  | { transferId: string, success: false, error: AtsP2pError }
)

/**
 * What a transfer is about, in this order. `hashing`: the file is read that is to be sent, or at a receiver what an
 * earlier process has received of it. `waiting`: for the recipient to accept, for the task service; at a receiver for
 * its turn too, which may come before `hashing`. `connecting`: both know of the transfer, and look for each other.
 * `transferring`: bytes go. `verifying`: all have come, and the recipient puts the file in its place. Only a connection
 * that was lost leads back: to `connecting`.
 */
export type Phase = 'hashing' | 'waiting' | 'connecting' | 'transferring' | 'verifying'

/** How far a transfer is. */
export interface PhaseProgress {
  phase: Phase
  /**
   * Bytes that are hashed or transferred, in these phases. 0 in `waiting` and `connecting`, and `totalBytes` in
   * `verifying`.
   */
  bytes: number
  /** Size of the file in bytes. */
  totalBytes: number
  /** Bytes a second over the last seconds, in `hashing` and `transferring`; null where that is not known yet. */
  rate: number | null
  /** Seconds until this phase ends at that rate; null where that is not known. */
  eta: number | null
}

export interface Progress extends PhaseProgress {
  /** Bytes of the file that are sent: 0 until `transferring`, and never fewer than before. */
  bytesSent: number
}

/** Who is behind an actor's id, as far as that is known. */
export interface Peer {
  /** The identity that it has proven by its signature, 64 hex digits; null without one, and before it spoke. */
  peerIdentity: string | null
  /** Whether it has proven an identity, and the one that is known if one is. */
  verified: boolean
  /** Whether nothing was known of this actor, so that the identity is taken on faith. */
  firstUse: boolean
}

export interface SendResult extends Peer {
  transferId: string
  taskId: TaskId
  success: true
  /** SHA-256 of the file in lower-case hex; the recipient has verified it. */
  hash: string
  /** Bytes. */
  size: number
  /**
   * The byte of the file that was the first to go, counted from 0: more than that where an earlier process had sent
   * what is before it, and `size` where the recipient had the whole file already.
   */
  resumedFrom: number
  /** The connection that the bytes went by; absent where none was needed. */
  connection?: PeerConnection
  /** An earlier send with the same `idempotencyKey` delivered the file; this one sent nothing. */
  replayed?: true
}

/** How two peers are connected. */
export interface PeerConnection {
  /**
   * `lan`: in one network, or on one machine. `direct`: one of the two is reachable from outside. `punched`:
   * through a hole that both made in their NATs. `relayed`: through a third node, which passes on what it
   * cannot read. `tunnel`: over HTTPS through a hub, which cannot read it either.
   */
  path: 'lan' | 'direct' | 'punched' | 'relayed' | 'tunnel' | (string & {})
  /** The smoothed round-trip time in milliseconds; absent until it is known. */
  rttMs?: number
  /** How long connecting took, in milliseconds: since the dial, or since the peer's first message. */
  connectMs: number
  /** Where the peer is, or the relay between, as `host:port`; of a tunnel the hub, or the proxy before it. */
  remoteAddress: string
}

export interface WatchOptions {
  /** Default: the node's channel. */
  channel?: string
  /** Folder to save into, made if it is missing. Nothing in it is replaced unless `existing` says so. */
  saveDir?: LocalPath
  /** What becomes of a file whose name is taken there; one that is not to come is declined. Default: 'rename'. */
  existing?: Existing
  /** Decides about each offer of this watch. Default: the node's. */
  shouldAccept?: ShouldAccept
}

/**
 * What becomes of a file whose name is taken in its folder. `rename`: it gets a number, as `data (1).csv`. `overwrite`: it
 * takes the place of the file that is there, in one step, once it is whole and verified; a folder is never replaced, and what
 * would have its name does not come. `skip`: what is there stays; if it has the
 * same content it counts as received, is hashed for that, and no byte moves, and otherwise the file does not come. A folder
 * has the same content only where its names, permissions and times are those of the one that is offered.
 */
export type Existing = 'rename' | 'overwrite' | 'skip'

export interface OffersOptions {
  /** Default: the node's channel. */
  channel?: string
  /** Ends the iteration, without an error. */
  signal?: AbortSignal
}

export interface AcceptOptions extends TakeOptions {
  /** Whether a file that stands at the path is replaced. A folder never is. Default: true. */
  overwrite?: boolean
}

export interface AcceptIntoOptions extends TakeOptions {
  /** The folder that the file goes to, under its own name made safe. It is made if it is missing. */
  saveDir: LocalPath
  /**
   * What becomes of the file where its name is taken there. One that does not come, by `skip`, rejects with
   * `ATS_P2P_ALREADY_EXISTS`, and its offer still stands. Default: 'rename'.
   */
  existing?: Existing
}

/** Options of `accept`, wherever the bytes go. */
export interface TakeOptions {
  /** Bytes a second that this transfer moves at most, at least 1024, within the node's `maxRate`. Default: that. */
  maxRate?: number
  /** Ends the transfer; `accept` then rejects with `ATS_P2P_ABORTED`. */
  signal?: AbortSignal
}

export interface AcceptResult extends Peer {
  success: true
  /** Where the file is. */
  filePath: string
  /** The bytes of that path; present where they are not UTF-8, so that `filePath` shows some of them as U+FFFD. */
  filePathBytes?: Buffer
  /** SHA-256 in lower-case hex, verified. */
  hash: string
  /** Bytes. */
  size: number
  transferId: string
  taskId: TaskId
  /**
   * The byte of the file that was the first to come, counted from 0: more than that where an earlier process had
   * received what is before it, and `size` where the file had arrived before.
   */
  resumedFrom: number
  /** The connection that the bytes came by; absent where the file had arrived before. */
  connection?: PeerConnection
}

/** A path, or a `file:` URL. As bytes it need not be UTF-8, except on Windows. */
export type LocalPath = string | Uint8Array | URL

/** As the task service gives it. */
export type TaskId = string | number

/** A task as the task service gave it. Everything in it is the word of others. */
export type Task = { id: TaskId, [key: string]: unknown }

/** How much a folder holds. */
export interface TreeSize {
  /** Files, folders and links, the folder itself included. */
  entries: number
  /** Bytes of all files. */
  bytes: number
}

/** What every event of a transfer says of it. */
export interface TransferInfo extends Peer {
  transferId: string
  taskId: TaskId
  direction: 'send' | 'receive'
  /** The file's name, made safe to use and to print. */
  fileName: string
  /** The name as it was offered, escaped for printing. */
  originalName: string
  /** Bytes. */
  fileSize: number
  /** SHA-256 in lower-case hex. */
  fileHash: string
  /** What it holds, if it is a folder: then size and hash are those of the archive that it goes as. */
  tree?: TreeSize
  /** The actor at the other end. */
  peerId: string
  /**
   * What the sender says of the file besides, null where it says nothing: any JSON value, of at most 4 KiB. At a
   * receiver it is the word of another, of whatever shape, and not safe to print.
   */
  metadata: JsonValue
}

/** What a sender may say of a file. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [name: string]: JsonValue }

/** A transfer that need not have been offered yet: one that is sent has no task and no hash before. */
export interface BegunTransfer extends Omit<TransferInfo, 'taskId' | 'fileHash' | 'metadata'> {
  taskId: TaskId | null
  fileHash: string | null
}

/** A transfer that is under way. */
export interface RunningTransfer extends BegunTransfer, PhaseProgress {}

/** What an offer says. */
export interface Offer extends TransferInfo {
  task: Task
  /** The channel that it is on. */
  channel: string
  /** The actor who offers it. */
  senderId: string
  /** The permission bits of its source, 0 to 0o777; absent where the sender does not tell them. */
  mode?: number
  /** When its source was changed last, Unix milliseconds; absent where the sender does not tell. */
  mtime?: number
}

/**
 * Decides about an offer: true takes it, or hands it on where the watch has no `saveDir`; false declines it, and so
 * does a string, which its sender is told as the reason. What it throws declines too, and becomes the node's `error`;
 * the sender is not told of that. Many may be asked about at once.
 */
export type ShouldAccept = (offer: Offer) => boolean | string | Promise<boolean | string>

/** An offer, and how to answer it. */
/**
 * A file as it comes, a Node.js `Readable` of bytes. It goes no faster than it is read: at most some 10 MiB are on their
 * way here, and the sender waits. A reader that takes nothing for as long as the sender's `timeout` ends the transfer with
 * `ATS_P2P_STALLED`. A connection that is lost is made again, and the stream goes on where it was.
 *
 * Its end means that the SHA-256 of all its bytes is the one that was offered, and that the sender has been told: until
 * then, trust none of them. It fails with an {@link AtsP2pError} otherwise. Destroyed before its end, by `break` in a
 * `for await` for one, it ends the transfer with `ATS_P2P_ABORTED`, which the sender is told.
 */
export interface ReceivedFile extends Readable {
  /** What the transfer came to, or what the stream failed by. Nobody need look at it. */
  readonly result: Promise<Omit<AcceptResult, 'filePath' | 'filePathBytes'>>
  /** The same as a web stream; read one of the two. */
  web(): ReadableStream<Uint8Array>
}

export interface FileOffer extends Offer {
  /**
   * Takes the file to this path, or into a folder under its own safe name. Resolves when it is whole, verified
   * and in its place; until then nothing stands at the path. Where it fails before the offer was claimed (the
   * path cannot be written, for one), the offer still stands and may be answered again. A folder becomes this very
   * path, also where that ends in a separator, and never replaces or joins anything: what stands there is refused with
   * `ATS_P2P_ALREADY_EXISTS`, unless it is an empty folder.
   */
  accept(path: LocalPath, options?: AcceptOptions): Promise<AcceptResult>
  accept(target: AcceptIntoOptions): Promise<AcceptResult>
  /**
   * Takes the file as a stream, without a disk. Resolves once its first bytes are there, and rejects with what keeps
   * them away: as long as the offer was not claimed it still stands then. Of a folder it is the archive, as `tar` reads
   * it. Nobody has looked into that: its names and links are as the sender made them.
   */
  accept(): Promise<ReceivedFile>
  accept(target: TakeOptions & { stream: true }): Promise<ReceivedFile>
  /**
   * Takes the file into memory, and resolves once all of it is there and verified. One larger than `maxBytes` is refused
   * with `ATS_P2P_TOO_LARGE` before it is claimed, and the offer still stands. Default: 64 MiB.
   */
  accept(target: TakeOptions & { buffer: true, maxBytes?: number }): Promise<Buffer>
  /** Declines the file; the sender is told the reason. */
  reject(reason?: string): Promise<void>
}

/** The events of a node and what their listeners get. */
export interface NodeEvents {
  /** The task that offers a file was made. */
  offer_sent: [TransferInfo & { recipientId: string }]
  /** An offer that an earlier process of this agent made is gone on with, or its end is told now. */
  offer_resumed: [TransferInfo & { recipientId: string }]
  /** A connection to the peer came about; another one where the first was lost on the way. */
  peer_connected: [TransferInfo & PeerConnection]
  /**
   * The peers are connected, and bytes are due from `resumedFrom` on: the first, 0, unless earlier processes had moved
   * some. Told once a transfer; after a connection that was lost it goes on where it was.
   */
  transfer_start: [TransferInfo & { resumedFrom: number }]
  /**
   * A transfer, in either direction, has come to another phase, or further within one: at most ten times a second, and
   * at each change of phase. While the file is hashed that is to be sent, there is no task and no hash.
   */
  transfer_progress: [BegunTransfer & PhaseProgress]
  /** The file is whole, verified and in its place; `filePath` on the receiving side. */
  transfer_complete: [TransferInfo & { filePath?: string, filePathBytes?: Buffer }]
  /** The transfer ended without success. The call that began it rejects right after. */
  transfer_failed: [BegunTransfer & { metadata: JsonValue, reason: string, code: ErrorCode, step: FailedStep | null, retryable: boolean }]
  /** Somebody offers a file, and the watch has no `saveDir`. */
  file: [FileOffer]
  /**
   * The task service is reached, for the first time or again, and offers to `actorId` on `channel` are heard of. Told
   * once for a channel, however many watch it.
   */
  connected: [{ atsUrl: string, channel: string, actorId: string }]
  /** The task service is not reached; the node keeps trying. */
  disconnected: [{ reason: string }]
  /** Something is wrong with the node itself, or a listener threw. Unheard, it ends the process. */
  error: [Error]
}

/** What the task service says of a transfer. */
export interface TransferStatus {
  transferId: string
  taskId: TaskId
  /** Of the task. */
  status: 'pending' | 'in_progress' | 'completed' | 'failed' | 'cancelled' | 'rejected' | (string & {})
  channel: string
  /** The actor who accepted the offer. */
  claimedBy: string | null
  /** In RFC 3339, as the service says. */
  createdAt: string | null
  updatedAt: string | null
  /** What the task was completed with. Everything in it is the word of others. */
  outputs: unknown[]
  /** Made safe to print. */
  fileName: string
  /** Bytes. */
  fileSize: number
  /** SHA-256 in lower-case hex. */
  fileHash: string
  senderId: string
  /** Absent where the offer is for whoever claims it. */
  recipientId?: string
  /** When the offer ends, RFC 3339. */
  expiresAt?: string
  /** Why the task ended, in the words of whoever ended it; made safe to print. */
  reason?: string
  /** What the transfer failed with, as far as its task tells. */
  code?: ErrorCode
  [key: string]: unknown
}

/** Why a call or a transfer failed. Match on `code`; the message is for people. */
export declare class AtsP2pError extends Error {
  constructor(message: string, options?: { code?: ErrorCode, transferId?: string, taskId?: TaskId, step?: FailedStep, retryable?: boolean, cause?: unknown })
  name: 'AtsP2pError'
  code: ErrorCode
  transferId?: string
  taskId?: TaskId
  /** In which part of the transfer it came up. */
  step?: FailedStep
  /** Whether the same call may succeed later with nothing changed. */
  retryable: boolean
}

/**
 * The part of a transfer that failed, from the first to the last: `service`, speaking with the task service;
 * `offer`, agreeing on the transfer; `network`, finding a place on the peer network; `lookup`, finding the peer
 * there; `handshake`, having it answer; `punch`, getting through the NATs between; `relay`, getting through a
 * relay; `tunnel`, meeting the peer at the tunnel, where UDP leads nowhere; `transfer`, moving the bytes; `file`,
 * the file and the disk at this end.
 */
export type FailedStep =
  | 'service' | 'offer' | 'network' | 'lookup' | 'handshake' | 'punch' | 'relay' | 'tunnel' | 'transfer' | 'file'
  | (string & {})

/** What went wrong, by a name that stays the same. Each may be tried again where the error's `retryable` says so. */
export type ErrorCode =
  /** An argument is missing, of the wrong kind or out of range; the error is a `TypeError` then. Mend the call. */
  | 'ATS_P2P_INVALID_ARGUMENT'
  /** There is no file at the path. Check it; a relative one is taken from the current folder. */
  | 'ATS_P2P_FILE_NOT_FOUND'
  /**
   * There is something else at the path: a device, a pipe or a socket where a file or a folder was to be read, a folder
   * where a file was to be written. Name another one; what comes by a pipe is sent as a `stream`.
   */
  | 'ATS_P2P_NOT_A_FILE'
  /** The file, or a folder on its way, may not be read by this user, or the disk fails. */
  | 'ATS_P2P_NOT_READABLE'
  /** The file changed between being hashed and being sent. Send it again once nothing writes to it. */
  | 'ATS_P2P_SOURCE_CHANGED'
  /**
   * The file cannot be saved there: permissions, a read-only disk, a folder that is a file. The offer still stands:
   * accept it to another place.
   */
  | 'ATS_P2P_NOT_WRITABLE'
  /**
   * Something stands in the place, and was not to be replaced: the target of `accept` with `overwrite: false`, a seed,
   * a backup, a service in the settings.
   */
  | 'ATS_P2P_ALREADY_EXISTS'
  /** The disk of the target has no room for the file, or a quota is used up. Make room, then have it sent again. */
  | 'ATS_P2P_DISK_FULL'
  /** The file is larger than the recipient's `maxFileSize`. */
  | 'ATS_P2P_TOO_LARGE'
  /**
   * The task service cannot be reached: is it running, is `atsUrl` right, is there a network? Its step is `service`;
   * `doctor` finds out more.
   */
  | 'ATS_P2P_ATS_UNREACHABLE'
  /** The task service answered with an error: it refused the key or the request, or has trouble of its own. */
  | 'ATS_P2P_ATS_ERROR'
  /** What answers at `atsUrl` is no task service: a proxy's sign-in page, another server. */
  | 'ATS_P2P_ATS_PROTOCOL'
  /** The offer in a task is incomplete or contradicts itself. Its sender has to offer the file anew. */
  | 'ATS_P2P_INVALID_OFFER'
  /** Nobody accepted the offer within `timeout`. Is the recipient's actor id right, and does it watch this channel? */
  | 'ATS_P2P_OFFER_EXPIRED'
  /** The recipient declined; the message holds its reason. */
  | 'ATS_P2P_REJECTED'
  /** Somebody whom the offer is not for claimed it. Nothing was sent. `anyClaimant` allows that. */
  | 'ATS_P2P_WRONG_CLAIMANT'
  /** Somebody else claimed the offer first: another process of this agent, or another agent. */
  | 'ATS_P2P_ALREADY_CLAIMED'
  /** This offer was accepted, rejected or withdrawn before, or gave way to others. */
  | 'ATS_P2P_ALREADY_ANSWERED'
  /**
   * The sender is not among the recipient's `allowedPeers`; or the transfer is another agent's, and not this one's to
   * end.
   */
  | 'ATS_P2P_NOT_ALLOWED'
  /**
   * The peer shows another identity than the one that is known, or none where one is needed. Ask its owner whether it
   * has a new one, and then accept that: {@link peers}, `ats-p2p peers accept`.
   */
  | 'ATS_P2P_IDENTITY'
  /**
   * No connection to the peer came about in time; `step` says how far it got. `doctor` with `peer` looks at the way.
   */
  | 'ATS_P2P_PEER_UNREACHABLE'
  /** The connection stands, and hardly a byte moved for as long as `timeout`. */
  | 'ATS_P2P_STALLED'
  /** Name, size or SHA-256 of what arrived differ from what was offered. Nothing was saved. */
  | 'ATS_P2P_INTEGRITY'
  /** The peer reported trouble of its own: its disk, its files. */
  | 'ATS_P2P_REMOTE_ERROR'
  /** The peer broke the transfer protocol. */
  | 'ATS_P2P_PROTOCOL'
  /** A third party cancelled or failed the task: `cancel`, another process, the service. */
  | 'ATS_P2P_CANCELLED'
  /** The caller ended it here: a signal, whose reason is the `cause`, or `destroy`. */
  | 'ATS_P2P_ABORTED'
  /** The node was destroyed before the call. Make another one. */
  | 'ATS_P2P_DESTROYED'
  /** The peer network could not be used: no socket, no node of the DHT to start from. See `bootstrap`. */
  | 'ATS_P2P_NETWORK'
  /** No transfer has this id on this channel of this service. */
  | 'ATS_P2P_UNKNOWN_TRANSFER'
  /** There is nothing that both ends of the transfer have signed, as with the original package. */
  | 'ATS_P2P_NO_RECEIPT'
  /** The `idempotencyKey` stands for another file, recipient or channel. Use another key for another send. */
  | 'ATS_P2P_KEY_REUSED'
  /** State on this disk cannot be read or written: the home, the seed, a hub's data. */
  | 'ATS_P2P_STATE'
  /** There is no addon that fits this machine, or it does not load. The message says what was looked for, and helps. */
  | 'ATS_P2P_NO_ADDON'
  | (string & {})

export interface HubOptions extends HubDataOptions {
  /**
   * Address and port of the service; port 0 takes a free one, and `:8787` is that port of all addresses.
   * Default: `127.0.0.1:8787`.
   */
  listen?: string
  /** What others call it, where that is not the address it listens on, as `https://hub.example`. Default: none. */
  publicUrl?: string
  /**
   * More names that it goes by, besides its addresses, `localhost`, the machine's name and that of `publicUrl`.
   * A request for any other name is refused. Default: none.
   */
  allowedHosts?: readonly string[]
  /**
   * Proxies in front of it, as addresses or networks (`10.0.0.0/8`), whose word on a client's address is taken
   * (`X-Forwarded-For`, `Forwarded`). Default: none.
   */
  trustedProxies?: readonly string[]
  /**
   * Most requests a second of one actor that shows its key, else of one address; those of this machine may be a hundred
   * times as many. Default: 200.
   */
  requestRate?: number
  /** Most bytes that one of them has kept in a day; this machine may have eight times as many. Default: 1073741824. */
  dailyQuota?: number
  /**
   * Let everybody in without a key who can reach it. By default that is only this machine, over the loopback address:
   * all others need a key ({@link hubKeys}). Default: false.
   */
  open?: boolean
  /** Networks, as `10.0.0.0/8`, or addresses whose clients need no key. Default: none. */
  trust?: string[]
  /** Take keys over plain HTTP from other machines, where anybody on the way can read them. Default: false. */
  insecure?: boolean
  /** File of the certificate, and those between it and the authority, in PEM: the hub speaks TLS. Read anew when it changes. */
  cert?: string | URL
  /** File of the certificate's private key, in PEM. Read anew when it changes. */
  keyFile?: string | URL
  /**
   * How long a task is kept once it is over, milliseconds from its last change, with its messages and its trail. An
   * offer that nobody touched for so long is ended. `Infinity` keeps all. Default: 90 days.
   */
  keep?: number
  /**
   * Whom its relay serves: pairs of peers one of whom has an open task here, everybody, or nobody.
   * Default: `'tasks'`.
   */
  relay?: 'tasks' | 'open' | 'off'
  /** Most pairs of peers at once, by the relay and by the tunnel each. Default: 64. */
  relayPairs?: number
  /**
   * Most bytes a second for a pair, both directions together, by either; the tunnel has no such bound between two
   * processes of this machine. Default: 33554432.
   */
  relayRate?: number
  /** Most bytes for a pair before it is ended, by either. Default: 274877906944. */
  relayBytes?: number
  /**
   * Whom its tunnel joins, which peers without UDP meet at by WebSockets: pairs of peers whose keys both stand in one
   * open task here, whoever may use the hub, everybody, or nobody. Default: `'tasks'`.
   */
  tunnel?: 'tasks' | 'keys' | 'open' | 'off'
  /**
   * The address at which this very hub is reached, as `https://hub-1.example`, where several share a name or a
   * database: two peers have to come to the same one. Default: what each calls the hub.
   */
  tunnelUrl?: string
}

/** A task service and a private DHT. */
export interface Hub extends AsyncDisposable {
  /** What agents set as `atsUrl` or `ATS_URL`. */
  readonly url: string
  /** All that lead to it where it listens on all addresses, `url` first. */
  readonly urls: readonly string[]
  /** Where it listens, `host:port`: what a proxy in front of it calls. */
  readonly address: string
  /** Nodes of the private DHT, each `host:port`. */
  readonly bootstrap: readonly string[]
  /** Public key of its relay in hex; `null` without one. */
  readonly relay: string | null
  /** Ends it. May be called again. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

export interface DhtOptions extends CallOptions {
  /** IPv4 address that it is bound to. Default: all. */
  host?: string
  /** UDP port; 0 takes a free one. Default: 49737, or one of the next four where that is taken. */
  port?: number
  /** Nodes of the network that it joins, each `host:port`. Default: none; it is the first of its own. */
  bootstrap?: readonly string[]
}

/** A node of the DHT that runs for others. */
export interface DhtNode extends AsyncDisposable {
  /** `host:port`, for others' `bootstrap` and `ATS_P2P_BOOTSTRAP`. */
  readonly address: string
  /** Others reached it when it had looked around, so that it keeps announcements for them. */
  readonly reachable: boolean
  /**
   * Resolves once others reach it, with its address: at once where `reachable` holds. A node that is not reached
   * looks again after twenty minutes, and then every hour. Null if it is closed before.
   */
  reached(): Promise<string | null>
  /** Other nodes that it knew when it had looked around. */
  readonly nodes: number
  /** Ends it. May be called again. */
  close(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}
