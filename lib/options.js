'use strict'

// Which options each call takes.

const { isUint8Array } = require('node:util/types')
const {
  abortSignal, addresses, boolean, bytes, callback, count, existing, filePath, filePaths, isUrl, json, localPath, milliseconds, number, places,
  port, publicKey, rate, retention, seedPath, string, taskId, text, texts, tunnelPlace, unwanted, url
} = require('./checks')
const { checkContent, content, fileName, limit, source } = require('./content')
const { invalid } = require('./error')
const { meantBy, quoted, warnOfUnknown } = require('./unknown')

const NODE_OPTIONS = {
  atsUrl: url,
  organization: text,
  project: text,
  channel: text,
  actorType: text,
  actorId: text,
  actorName: text,
  apiKey: text,
  ca: localPath,
  insecure: boolean,
  allowedPeers: texts,
  requireVerified: boolean,
  maxFileSize: bytes,
  maxRate: rate,
  timeout: milliseconds,
  bootstrap: addresses,
  relayThrough: text,
  tunnel: tunnelPlace,
  home: localPath,
  topicPrefix: string,
  maxOfferAge: milliseconds,
  maxPartialAge: milliseconds,
  maxConcurrent: places,
  anyClaimant: boolean,
  identity: seedPath,
  keepReceipts: number,
  preserve: boolean,
  hashCache: boolean,
  resume: boolean,
  shouldAccept: callback
}

const VERIFY_OPTIONS = { id: taskId, receipt: filePath, file: filePath, signal: abortSignal }

const SEND_OPTIONS = {
  filePath,
  filePaths,
  data: content,
  stream: source,
  fileName,
  maxBytes: limit,
  exclude: texts,
  gitignore: boolean,
  recipientId: text,
  channel: text,
  timeout: milliseconds,
  idempotencyKey: text,
  metadata: json,
  maxRate: rate,
  onProgress: callback,
  signal: abortSignal
}

// To several.
const SEND_TO_ALL_OPTIONS = { ...SEND_OPTIONS, recipientIds: texts, onResult: callback, recipientId: ofOne, idempotencyKey: ofOne }

const WATCH_OPTIONS = { channel: text, saveDir: filePath, existing, shouldAccept: callback }

// Of calls that take nothing else.
const CALL_OPTIONS = { signal: abortSignal }

const OFFERS_OPTIONS = { channel: text, signal: abortSignal }

const ACCEPT_OPTIONS = { saveDir: filePath, existing, overwrite: boolean, stream: boolean, buffer: boolean, maxBytes: limit, maxRate: rate, signal: abortSignal }

// Most bytes that are taken into memory where nobody says.
const MAX_BUFFERED = 64 * 1024 ** 2

const HUB_DATA_OPTIONS = { data: localPath, database: text, databaseFile: localPath }

const HUB_OPTIONS = {
  listen: text,
  ...HUB_DATA_OPTIONS,
  publicUrl: text,
  allowedHosts: texts,
  trustedProxies: texts,
  open: boolean,
  trust: texts,
  insecure: boolean,
  cert: localPath,
  keyFile: localPath,
  requestRate: count,
  keep: retention,
  dailyQuota: count,
  relay: text,
  relayPairs: count,
  relayRate: count,
  relayBytes: count,
  tunnel: text,
  tunnelUrl: text
}

const GRANT_OPTIONS = { admin: boolean, expiresIn: count }

const JOIN_OPTIONS = { ca: localPath, insecure: boolean, replace: boolean, signal: abortSignal }

const DHT_OPTIONS = { host: text, port, bootstrap: addresses, signal: abortSignal }

// The calls whose options are told apart from one another, where one was given to the wrong one.
const OF_CALLS = {
  createNode: NODE_OPTIONS,
  send: SEND_OPTIONS,
  watch: WATCH_OPTIONS,
  offers: OFFERS_OPTIONS,
  accept: ACCEPT_OPTIONS,
  verify: VERIFY_OPTIONS,
  startHub: HUB_OPTIONS,
  startDht: DHT_OPTIONS,
  'hubKeys.create': GRANT_OPTIONS,
  join: JOIN_OPTIONS
}

/** The options that are set and known, checked; unknown ones are left out, and warned of once. */
function checkOptions (call, options = {}, table, required = []) {
  if (options === null || typeof options !== 'object') throw invalid(`${call}: the options must be an object`, options)
  const checked = {}
  for (const [name, check] of Object.entries(table)) {
    const value = options[name]
    if (value !== undefined && value !== null) checked[name] = check(value, `${call}: ${name}`)
    else if (required.includes(name)) throw missing(call, name, options, table)
    if (checked[name] === undefined) delete checked[name]
  }
  warnOfUnknown(call, options, table, OF_CALLS)
  return checked
}

/** The options of a node, for a call that makes none: without those that only a node that runs could follow. */
function checkNodeOptions (call, options, more) {
  const { resume, shouldAccept, ...checked } = checkOptions(call, options, { ...NODE_OPTIONS, ...more })
  return checked
}

/** Of `send`: what is sent, exactly one thing, and to whom. */
function checkSend (options) {
  const isOther = [options?.filePaths, options?.data, options?.stream].some(given => given != null)
  const toAll = options?.recipientIds != null
  const required = [...(isOther ? [] : ['filePath']), toAll ? 'recipientIds' : 'recipientId']
  const checked = checkContent(checkOptions('send', options, toAll ? SEND_TO_ALL_OPTIONS : SEND_OPTIONS, required))
  if (checked.recipientIds?.length === 0) throw invalid('send: recipientIds must name at least one recipient')
  return checked
}

/** What stands for one transfer. */
function ofOne (value, what) {
  throw invalid(`${what} does not go with recipientIds`)
}

function missing (call, name, options, table) {
  const meant = meantBy(name, options, table)
  return invalid(`${call}: ${name} is required${meant === undefined ? '' : `, and ${quoted(meant)} is unknown`}`, options[name])
}

/** `accept(path, options)` or `accept({ saveDir, ...options })`; or into memory: `accept()` or `accept({ stream | buffer })`. */
function checkTarget (given) {
  const [target, options] = given
  if (given.length === 0) return { stream: true }
  if (typeof target === 'string' || isUint8Array(target) || isUrl(target)) {
    return { ...checkOptions('accept', options, { ...ACCEPT_OPTIONS, saveDir: unwanted, existing: unwanted, stream: unwanted, buffer: unwanted, maxBytes: unwanted }), path: filePath(target, 'accept: path') }
  }
  if (target === undefined || target === null) throw invalid('accept: a path to save to is required', target)
  const isRead = target.stream === true || target.buffer === true
  const { saveDir, stream = false, buffer = false, maxBytes, ...rest } = checkOptions('accept', target, ACCEPT_OPTIONS, isRead ? [] : ['saveDir'])
  if (!isRead) {
    if (maxBytes !== undefined) throw invalid('accept: maxBytes goes with buffer; maxFileSize is for what is written')
    if (rest.overwrite !== undefined) throw invalid('accept: overwrite goes with a path; with saveDir, existing says what becomes of a name that is taken')
    return { ...rest, dir: saveDir }
  }
  if ((saveDir ?? rest.existing ?? rest.overwrite) !== undefined || (stream && buffer)) throw invalid('accept: only one of a path, saveDir, stream and buffer can be asked for')
  if (stream && maxBytes !== undefined) throw invalid('accept: maxBytes goes with buffer: a stream is as long as fileSize says')
  return { ...rest, stream, buffer, maxBytes: maxBytes ?? MAX_BUFFERED }
}

module.exports = {
  ACCEPT_OPTIONS,
  CALL_OPTIONS,
  DHT_OPTIONS,
  GRANT_OPTIONS,
  HUB_DATA_OPTIONS,
  HUB_OPTIONS,
  JOIN_OPTIONS,
  NODE_OPTIONS,
  OFFERS_OPTIONS,
  SEND_OPTIONS,
  SEND_TO_ALL_OPTIONS,
  VERIFY_OPTIONS,
  WATCH_OPTIONS,
  checkNodeOptions,
  checkOptions,
  checkSend,
  checkTarget
}
