'use strict'

// Every exit code of the command line, in one table.

const USAGE_ERROR = 2
const UNWELL = 16
const WAITED = 18
const LEFT = 22
// What a command was to say went to a full disk.
const OUTPUT_LOST = 4
const EXEC_FAILED = 20

const EXITS = [
  [0, 'done', []],
  [1, 'failed for another reason than those below', []],
  [USAGE_ERROR, 'wrong usage', ['INVALID_ARGUMENT']],
  [3, 'the file to send is missing, no plain file, unreadable, or changed', ['FILE_NOT_FOUND', 'NOT_A_FILE', 'NOT_READABLE', 'SOURCE_CHANGED']],
  [4, 'this disk: not writable, full, or something is in the way', ['NOT_WRITABLE', 'DISK_FULL', 'ALREADY_EXISTS', 'STATE']],
  [5, 'the task service is not reached, or answers with errors', ['ATS_UNREACHABLE', 'ATS_ERROR', 'ATS_PROTOCOL']],
  [6, 'the peer is not reached', ['PEER_UNREACHABLE', 'NETWORK']],
  [7, 'the transfer stalled', ['STALLED']],
  [8, 'the recipient declined', ['REJECTED']],
  [9, 'nobody accepted in time', ['OFFER_EXPIRED']],
  [10, 'the wrong peer: not who it should be, or not allowed', ['WRONG_CLAIMANT', 'ALREADY_CLAIMED', 'ALREADY_ANSWERED', 'IDENTITY', 'NOT_ALLOWED']],
  [11, 'what arrived is not what was offered', ['INTEGRITY']],
  [12, 'the peer failed, or broke the protocol', ['REMOTE_ERROR', 'PROTOCOL']],
  [13, 'cancelled', ['CANCELLED', 'ABORTED', 'DESTROYED']],
  [14, 'no such transfer', ['UNKNOWN_TRANSFER']],
  [15, 'the offer is too large, or makes no sense', ['TOO_LARGE', 'INVALID_OFFER']],
  [UNWELL, 'the doctor found something to be mended', []],
  [17, 'there is no receipt that both ends signed', ['NO_RECEIPT']],
  [WAITED, 'what `wait` waits for is not over yet', []],
  [19, 'there is no addon that fits this machine', ['NO_ADDON']],
  [EXEC_FAILED, 'the file has arrived, and the program that --exec names has failed', []],
  [21, 'the idempotency key stands for another send', ['KEY_REUSED']],
  [LEFT, 'the process that was sending is gone, as `wait` found; `resume` goes on', []],
  [130, 'interrupted (SIGINT); 143 for SIGTERM, 129 for SIGHUP', []]
]

const BY_CODE = new Map(EXITS.flatMap(([exit, , codes]) => codes.map(code => [`ATS_P2P_${code}`, exit])))

/** The exit code for an error that ended a command. */
function exitCode (error) {
  return BY_CODE.get(error?.code) ?? 1
}

/** The table as text. */
function exitTable () {
  return EXITS.map(([exit, meaning]) => `  ${String(exit).padStart(3)}  ${meaning}`).join('\n')
}

module.exports = { EXEC_FAILED, EXITS, LEFT, OUTPUT_LOST, UNWELL, USAGE_ERROR, WAITED, exitCode, exitTable }
