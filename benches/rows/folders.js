'use strict'

// Folders, of many small files and of a few large ones: this package, beside what else carries a folder from one
// process to another, on the same one. What arrives is held to it, entry by entry.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { installed, randomFile } = require('../session')
const { overSsh, runOverSsh, scp, sendme, timed } = require('./others')
const { peers, transfer } = require('./transfer')

const MB = 1e6
/** Bytes that are compared at a time. */
const CHUNK = 4 * 1024 * 1024
/** When what is in a folder was changed, one after another, in seconds since 1970. */
const LONG_AGO = 1_600_000_000
const MODES = [0o644, 0o600, 0o755, 0o444]

/** So many files of so many bytes, in so many folders, with one link in each: `{ path, size, count }`. */
async function makeTree (session, { folders, files, size, quick }) {
  const bytes = folders * files * size
  const parent = session.newFolder('tree', session.place(2 * bytes))
  const tree = path.join(parent, 'tree')
  fs.mkdirSync(tree)
  // One file after another would be as many writes; the small ones are pieces of a large one.
  const source = size < CHUNK ? await randomFile(path.join(parent, 'source'), folders * files * size) : undefined
  const pieces = source && fs.openSync(source.path)
  const buffer = Buffer.alloc(Math.min(size, CHUNK))
  for (let folder = 0, made = 0; folder < folders; folder++) {
    const within = path.join(tree, `folder ${folder}`)
    fs.mkdirSync(within)
    for (let file = 0; file < files; file++, made++) {
      const at = path.join(within, `${file}.bin`)
      if (pieces === undefined) await randomFile(at, size)
      else fs.writeFileSync(at, buffer.subarray(0, fs.readSync(pieces, buffer, 0, size, made * size)))
      fs.chmodSync(at, MODES[made % MODES.length])
      fs.utimesSync(at, LONG_AGO + made, LONG_AGO + made)
    }
    fs.symlinkSync('0.bin', path.join(within, 'link'))
    fs.lutimesSync(path.join(within, 'link'), LONG_AGO, LONG_AGO)
    fs.chmodSync(within, folder % 2 ? 0o750 : 0o755)
    fs.utimesSync(within, LONG_AGO + folder, LONG_AGO + folder)
  }
  if (source) {
    fs.closeSync(pieces)
    fs.rmSync(source.path)
  }
  fs.utimesSync(tree, LONG_AGO, LONG_AGO)
  return { path: tree, size: bytes, count: folders * files, remove: () => fs.rmSync(parent, { recursive: true }) }
}

/** Holds a copy of a folder to it: names, bytes, links, rights, and times to the second. */
function sameTree (copy, { path: original }, id = 'ats-p2p') {
  const buffers = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)]
  const compare = (name) => {
    const places = [original, copy].map(root => path.join(root, name))
    const [wanted, found] = places.map(place => fs.lstatSync(place))
    assert.deepEqual(attributes(found), attributes(wanted), `${id}: ${name}`)
    if (wanted.isSymbolicLink()) assert.equal(fs.readlinkSync(places[1]), fs.readlinkSync(places[0]), `${id}: ${name}`)
    else if (wanted.isFile()) assert.ok(sameBytes(places, wanted.size, buffers), `${id}: ${name} has other bytes`)
    else {
      const [names, others] = places.map(place => fs.readdirSync(place).sort())
      assert.deepEqual(others, names, `${id}: what is in ${name}`)
      for (const child of names) compare(path.join(name, child))
    }
  }
  compare('')
}

function attributes (stat) {
  return { mode: stat.mode.toString(8), size: stat.isFile() ? stat.size : 0, changed: Math.floor(stat.mtimeMs / 1000) }
}

function sameBytes (places, size, buffers) {
  const files = places.map(place => fs.openSync(place))
  try {
    for (let at = 0; at < size; at += CHUNK) {
      const [wanted, found] = files.map((file, i) => buffers[i].subarray(0, fs.readSync(file, buffers[i], 0, CHUNK, at)))
      if (!wanted.equals(found)) return false
    }
    return true
  } finally {
    for (const file of files) fs.closeSync(file)
  }
}

/** Of sendme only the files' bytes: of what it is given it keeps no more. */
function sameContents (copy, tree) {
  const buffers = [Buffer.alloc(CHUNK), Buffer.alloc(CHUNK)]
  for (const name of fs.readdirSync(tree.path, { recursive: true })) {
    const places = [tree.path, copy].map(root => path.join(root, name))
    const wanted = fs.lstatSync(places[0])
    if (wanted.isFile()) assert.ok(sameBytes(places, wanted.size, buffers), `sendme: ${name} has other bytes`)
  }
}

/** Seconds that each other program takes for the tree; or what it needs to be here. */
async function beside (session, tree, prepared, measured) {
  for (const program of Object.keys(overSsh)) {
    if (!overSsh[program].programs.every(installed)) {
      measured[program] = { missing: `\`apt-get install openssh-server openssh-client ${program}\`` }
      continue
    }
    prepared.ssh ??= await scp.prepare(session)
    const seconds = await timed(session, program, tree, runOverSsh(session, program, tree, prepared.ssh), sameTree)
    measured[program] = [...measured[program] ?? [], seconds]
  }
  if (!sendme.programs.every(installed)) {
    measured.sendme = { missing: sendme.howTo }
    return
  }
  prepared.sendme ??= await sendme.prepare(session)
  const { sender, receive } = await sendme.send(session, tree, prepared.sendme)
  measured.sendme = [...measured.sendme ?? [], await timed(session, 'sendme', tree, receive, sameContents)]
  await sender.stop()
}

/** `seconds` from the claim on, `whole` of the call that sends. */
async function sent (session, made, file, check) {
  // Where a virtual machine gets memory only as it touches it, whoever comes first would pay for it.
  const copy = `${file.path} copied`
  fs.cpSync(file.path, copy, { recursive: true })
  fs.rmSync(copy, { recursive: true })
  const { seconds, cpu, peak, took: [whole] } = await transfer(session, made, [file], { check })
  return { seconds, whole: whole / 1000, cpu, peak }
}

/** One run after another of a tree, and beside each, where `single` says so, one file of as many bytes. */
async function measure (session, { runs, kind, single }) {
  const { folders, files, size } = kind
  const measured = { files: folders * files, size, bytes: folders * files * size, runs: [], single: single ? [] : undefined }
  const made = await peers(session, ['ours', 'ours'])
  const prepared = {}
  try {
    await sent(session, made, await session.file(1000))
    for (let run = 0; run < runs; run++) {
      if (single) {
        // Both have no room in memory beside a copy.
        measured.single.push(await sent(session, made, await session.file(measured.bytes)))
        session.release(measured.bytes)
      }
      const tree = await makeTree(session, kind)
      measured.runs.push(await sent(session, made, tree, ([{ filePath }]) => sameTree(filePath, tree)))
      await beside(session, tree, prepared, measured)
      tree.remove()
    }
  } finally {
    await made.stop()
    await prepared.ssh?.server.stop()
  }
  return measured
}

const folders = [
  {
    id: 'folder-small',
    measure: (session, { runs, quick }) => measure(session, {
      runs: Math.min(runs, 3),
      kind: { folders: quick ? 20 : 1000, files: 100, size: 1000 }
    })
  },
  {
    id: 'folder-large',
    measure: (session, { runs, quick }) => measure(session, {
      runs: Math.min(runs, 2),
      kind: { folders: 1, files: 3, size: quick ? 20 * MB : 2000 * MB },
      single: true
    })
  }
]

module.exports = { folders }
