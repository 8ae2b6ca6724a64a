'use strict'

// The results as Markdown: what was asked of a transfer and what was measured, then the numbers behind it.

const { median, perGib, rate, speed } = require('./figures')
const { BESIDE, NAMES, PAIRS } = require('./names')
const { timeShare } = require('./rows/recipients')

const MB = 1e6
const MIB = 1024 * 1024

function table (results) {
  return [
    '# Benchmarks',
    'Written by `npm run bench`; every single run is in [results.json](results.json).',
    machines(results),
    '## Asked and measured',
    asked(results),
    results['ours-ours'] && '![Megabytes a second of each pairing](speed.svg)',
    speeds(results),
    limits(results),
    folders(results),
    overLinks(results),
    growth(results),
    connections(results)
  ].filter(Boolean).join('\n\n') + '\n'
}

function machines (results) {
  const groups = new Map()
  for (const [id, { machine, quick }] of Object.entries(results)) {
    const { load, date, ...same } = machine
    const key = JSON.stringify({ ...same, quick })
    groups.set(key, { machine, ids: [...(groups.get(key)?.ids ?? []), id], quick })
  }
  return [...groups.values()].map(({ machine, ids, quick }) => {
    const { cpu, cores, memory, system, node, rust, commit, date, peers } = machine
    const which = groups.size > 1 ? `${ids.join(', ')}: ` : ''
    return `${which}${cores} cores of ${cpu}, ${(memory / 2 ** 30).toFixed(0)} GiB, ${system}, Node.js ${node}, ${rust}; ` +
      `commit ${commit}, ${date}. JavaScript peers: ${Object.entries(peers).map(([name, version]) => `${name} ${version}`).join(', ')}.` +
      (quick ? ' A quick look, with smaller files and single runs.' : '')
  }).join('\n\n')
}

/** One line for each thing that is asked: `[what, asked, measured, met]`; nothing for what was not measured. */
function asked (results) {
  const lines = []
  const has = (...ids) => ids.every(id => results[id] && !results[id].missing)
  const atLeast = (what, wanted, value, text, unit = '') => lines.push([what, `at least ${wanted}${unit}`, text, value >= wanted])
  const atMost = (what, wanted, value, text, unit = '') => lines.push([what, `at most ${wanted}${unit}`, text, value <= wanted])
  const against = (what, wanted, id, other) => {
    if (!has(id, other)) return
    const [reached, reference] = [speed(results[id]), speed(results[other])]
    atLeast(`${NAMES[id]}, against ${what}`, wanted, reached / reference, `${ratio(reached / reference)} (${reached.toFixed(0)} to ${reference.toFixed(0)} MB/s)`, ' ×')
  }
  against('JavaScript to JavaScript', 4, 'ours-ours', 'js-js')
  against('sendme', 2, 'ours-ours', 'sendme')
  against('the limit', 0.6, 'ours-ours', 'limit')
  against('JavaScript to JavaScript', 1.1, 'ours-js', 'js-js')
  against('JavaScript to JavaScript', 1.1, 'js-ours', 'js-js')
  if (has('ours-ours', 'js-js')) {
    const [spent, reference] = [perGib(results['ours-ours']), perGib(results['js-js'])].map(({ sender, receiver }) => sender + receiver)
    atMost('processor time a GiB, both ends, against JavaScript', 0.4, spent / reference, `${ratio(spent / reference)} (${spent.toFixed(2)} s to ${reference.toFixed(2)} s)`, ' ×')
  }
  if (has('growth')) {
    for (const { size, runs } of results.growth.sizes) {
      if (size !== 256 * MIB && size !== 8192 * MIB) continue
      const peaks = ['sender', 'receiver'].map(end => Math.max(...runs.map(({ peak }) => peak[end])))
      atMost(`peak memory over idle, ${bytes(size)}`, 64, Math.max(...peaks) / MB, `sender ${(peaks[0] / MB).toFixed(0)} MB, receiver ${(peaks[1] / MB).toFixed(0)} MB`, ' MB')
    }
  }
  if (has('syscalls')) {
    const { size, means, 'ours-ours': ours, 'js-js': js } = results.syscalls
    const calls = ({ sender, receiver }) => [sender, receiver].map(count => count / (size / MB))
    const [sender, receiver] = calls(ours)
    atMost(`system calls a MB, on either end (${means})`, 60, Math.max(sender, receiver),
      `sender ${sender.toFixed(1)}, receiver ${receiver.toFixed(1)} (JavaScript ${calls(js).map(n => n.toFixed(0)).join(' and ')})`)
  }
  if (has('parallel')) {
    const at = n => median(results.parallel.connections.find(({ connections }) => connections === n).runs.map(rate))
    atLeast('100 transfers at once, against one of the same bytes', 0.9, at(100) / at(1), `all arrived; ${ratio(at(100) / at(1))} (${at(100).toFixed(0)} to ${at(1).toFixed(0)} MB/s)`, ' ×')
  }
  if (has('small')) {
    const { count, runs } = results.small
    const files = median(runs.map(({ seconds }) => count / seconds))
    atLeast(`files of 10 KB a second, 8 at a time, ${count} in all`, 600, files, files.toFixed(0))
  }
  if (has('together')) {
    const { count, runs } = results.together
    const files = median(runs.map(({ whole }) => count / whole))
    atLeast(`the same as one offer, by \`filePaths\`, ${count} in all`, 5000, files, files.toFixed(0))
  }
  if (has('latency')) {
    const { took: { p50, p99 }, count } = results.latency
    atMost(`\`send()\` of 1 KB, median of ${count}`, 60, p50, `${p50.toFixed(0)} ms`, ' ms')
    atMost(`\`send()\` of 1 KB, 99 of 100 within`, 200, p99, `${p99.toFixed(0)} ms`, ' ms')
  }
  for (const id of ['folder-small', 'folder-large']) {
    if (has(id)) lines.push(...askedOfFolder(results[id]))
  }
  if (has('recipients')) {
    const { count, size } = results.recipients
    const { singly, together, share } = timeShare(results.recipients)
    atMost(`${bytes(size)} to ${count} recipients by one call, against ${count} calls`, 1, share, `${ratio(share)} (${together.toFixed(2)} s to ${singly.toFixed(2)} s)`, ' ×')
  }
  if (has('command')) {
    const { size, js } = results.command
    const of = (runs, time) => median(runs.map(time))
    const reference = of(js, ({ seconds }) => seconds)
    for (const [which, when, times, beyond] of [['first', 'the first time', 3.4, 0.75], ['second', 'the second time', 4.4, 0.15]]) {
      const runs = results.command[which]
      const seconds = of(runs, ({ seconds }) => seconds)
      atLeast(`the command \`send\`, ${bytes(size)}, ${when}, against JavaScript's`, times, reference / seconds, `${ratio(reference / seconds)} (${seconds.toFixed(2)} s to ${reference.toFixed(2)} s)`, ' ×')
      const more = of(runs, ({ seconds, transfer }) => seconds - transfer)
      atMost('the same, beyond its transfer', beyond, more, `${more.toFixed(2)} s`, ' s')
    }
  }
  if (has('again')) {
    const { size, second, hashed } = results.again
    const moved = Math.max(...second.map(({ bytes }) => bytes))
    atMost(`bytes that move of ${bytes(size)} which the recipient has`, 100_000, moved, String(moved))
    const took = median(second.map(({ whole }) => whole))
    const verified = median(hashed)
    atMost('the same, `send()` from start to end, beyond hashing it', 1, took - verified, `${took.toFixed(2)} s, of which ${verified.toFixed(2)} s`, ' s')
  }
  for (const [id, share] of [['link-0', 90], ['link-0.1', 85], ['link-1', 70]]) {
    if (!has(id)) continue
    const { [id]: link } = results
    const used = pair => median(link[pair].map(onLink)) * 8 / link.rate * 100
    const [ours, js] = [used('ours-ours'), used('js-js')]
    atLeast(`of ${link.rate} Mbit/s, ${link.rtt} ms, ${link.loss} % lost`, share, ours, `${ours.toFixed(0)} %`, ' %')
    lines.push(['the same, against JavaScript to JavaScript', 'never below', `${ours.toFixed(0)} % to ${js.toFixed(0)} %`, ours >= js])
  }
  for (const [id, share] of [['small-buffer', 80], ['link-wide', 70], ['link-long', 80]]) {
    if (!has(id)) continue
    const { [id]: link } = results
    const { rate, 'ours-ours': ours, 'js-js': js } = link
    const [reached, reference] = [ours, js].map(runs => median(runs.map(onLink)))
    const used = reached * 8 / rate * 100
    atLeast(`of ${nameOfLink(link)}`, share, used, `${used.toFixed(0)} % (${reached.toFixed(1)} MB/s)`, ' %')
    lines.push(['the same, against JavaScript to JavaScript', 'never below', `${reached.toFixed(1)} to ${reference.toFixed(1)} MB/s`, reached >= reference])
  }
  for (const link of has('flows') ? results.flows.links : []) {
    const least = median(link.runs.map(run => leastShare(run, link)))
    atLeast(`each of two flows on one link, of ${nameOfLink(link)}`, 35, least, `${least.toFixed(0)} %`, ' %')
  }
  for (const link of has('beside') ? results.beside.links : []) {
    const at = which => median(link.runs.map(run => run[which].p99))
    for (const [which, where] of [['other', 'another socket'], ['same', 'the same socket']]) {
      atMost(`99 of 100 small messages beside a stream of ${where}, against idle; ${nameOfLink(link)}`, 3, at(which) / at('idle'),
        `${ratio(at(which) / at('idle'))} (${at(which).toFixed(0)} to ${at('idle').toFixed(0)} ms)`, ' ×')
    }
  }
  if (has('simulated')) {
    const { gigabit, sharing, lengths } = results.simulated.passes
    const held = passes => passes ? 'held by a test in virtual time' : 'the test in virtual time fails'
    lines.push(['of 1 Gbit/s, 100 ms, within 10 s (simulated)', 'at least 85 %', held(gigabit), gigabit])
    lines.push(['each of two flows on one link (simulated)', 'at least 35 %', held(sharing), sharing])
    lines.push(['each of two flows, one of 50 and one of 100 ms (simulated)', 'at least 35 %', held(lengths), lengths])
  }
  return markdown(['', 'asked', 'measured', 'met'], lines.map(([what, wanted, measured, met]) => [what, wanted, measured, met ? 'yes' : '**no**']))
}

/** What is asked of a folder, and of this package beside others on the same one. */
function askedOfFolder (folder) {
  const { files, size, runs, single } = folder
  const what = `a folder of ${files} files of ${bytes(size)}`
  const seconds = median(runs.map(({ seconds }) => seconds))
  const lines = []
  if (single) {
    const share = median(single.map(({ seconds }) => seconds)) / seconds
    lines.push([`${what}, against one file of the same bytes`, 'at least 0.85 ×', ratio(share), share >= 0.85])
  } else lines.push([`${what}, files a second`, 'at least 15000', (files / seconds).toFixed(0), files / seconds >= 15_000])
  const peaks = ['sender', 'receiver'].map(end => Math.max(...runs.map(({ peak }) => peak[end])) / MB)
  const shown = `sender ${peaks[0].toFixed(0)} MB, receiver ${peaks[1].toFixed(0)} MB`
  lines.push(['the same, peak memory over idle', 'at most 96 MB', shown, Math.max(...peaks) <= 96])
  for (const program of BESIDE.filter(program => folder[program] && !folder[program].missing)) {
    const other = median(folder[program])
    lines.push([`the same, against ${NAMES[program]}`, 'ahead', `${seconds.toFixed(1)} s to ${other.toFixed(1)} s`, seconds < other])
  }
  return lines
}

function speeds (results) {
  const ids = [...PAIRS, 'tunnel', 'sendme', 'wormhole', 'scp', 'limit'].filter(id => results[id])
  const rows = ids.map((id) => {
    const result = results[id]
    if (result.missing) return [NAMES[id], `not installed: ${result.missing}`, '', '', '']
    const rates = id === 'limit' ? result.whole : result.runs.map(rate)
    const cpu = result.runs?.[0].cpu ? perGib(result) : undefined
    return [NAMES[id], median(rates).toFixed(0), `${Math.min(...rates).toFixed(0)}–${Math.max(...rates).toFixed(0)}`,
      cpu?.sender.toFixed(2) ?? '', cpu?.receiver.toFixed(2) ?? '']
  })
  const { size, runs } = ids.map(id => results[id]).find(({ runs }) => runs) ?? {}
  if (!size) return ''
  return `## One file in memory\n\n${bytes(size)} of random bytes in memory, over loopback, between two processes; medians of ${runs.length}. ` +
    'The time of a transfer is the receiver\'s, from its claim of the offer to the verified file; that of other programs is ' +
    'the receiving program\'s from start to end. The processor time has the sender\'s first hash in it.\n\n' +
    markdown(['', 'MB/s', 'runs', 'sender, s a GiB', 'receiver, s a GiB'], rows)
}

function limits ({ limit }) {
  if (!limit || limit.missing) return ''
  const parts = Object.entries(limit.parts).map(([name, rates]) => [LIMITS[name], median(rates).toFixed(0)])
  return 'The limit is what two threads reach that do the same work without a protocol: one reads, takes ' +
    'a checksum (SHA-256 was there before the offer), encrypts and sends in large batches, one receives, decrypts, ' +
    'takes SHA-256 and writes; nothing is numbered, acknowledged or sent twice. Its parts alone:\n\n' +
    markdown(['', 'MB/s'], parts)
}

const LIMITS = {
  hash: 'SHA-256',
  encrypt: 'encryption (XChaCha20-Poly1305)',
  decrypt: 'decryption',
  udp: 'UDP over loopback with segmentation offload, two threads',
  write: 'writing the file',
  read: 'reading the file'
}

function overLinks (results) {
  const ids = Object.keys(results).filter(id => results[id].rtt && !results[id].missing)
  if (!ids.length) return ''
  const rows = ids.map((id) => {
    const { scp } = results[id]
    const beside = scp?.missing ? `missing: ${scp.missing}` : scp ? median(scp.map(onLink)).toFixed(1) : ''
    return [nameOfLink(results[id]), bytes(results[id].size), ...PAIRS.map(pair => median(results[id][pair].map(onLink)).toFixed(1)), beside]
  })
  return '## Over links\n\n' + 'MB/s from the connection to the verified file (scp: from its start to its end), between network namespaces joined by an ' +
    'emulated link with a buffer of one bandwidth-delay product; hub, DHT and sshd are on the sender\'s side.\n\n' +
    markdown(['', 'file', ...PAIRS.map(pair => NAMES[pair]), NAMES.scp], rows) + emulated(results)
}

/** What plain UDP and TCP get through the same emulator: what it costs, and what it leaves. */
function emulated ({ emulator }) {
  if (!emulator || emulator.missing) return ''
  const of = (name, field) => median(emulator[name].map(run => run[field]))
  const row = (name, title) => [title, of(name, 'rate').toFixed(1), of(name, 'cores').toFixed(2), of(name, 'emulator').toFixed(2)]
  return `\n\nThrough the emulator alone, at ${emulator.rate} Mbit/s and ${emulator.delay} ms:\n\n` +
    markdown(['', 'MB/s', 'cores busy', 'of that the emulator'], [row('udp', 'plain UDP at the link\'s rate, nothing sent again'), row('tcp', 'plain TCP')])
}

function nameOfLink ({ rate, rtt, loss, receiveBuffer }) {
  const width = rate % 1000 ? `${rate} Mbit/s` : `${rate / 1000} Gbit/s`
  return `${width}, ${rtt} ms, ${loss} % lost${receiveBuffer ? `, receive buffers of ${receiveBuffer / 1024} KiB` : ''}`
}

/**
 * Percent of the link that the slower of two flows of as many bytes had at least while the other one ran too: what it may
 * have carried alone after that is taken off.
 */
function leastShare ({ bytes: size, seconds }, { rate }) {
  const [first, last] = [...seconds].sort((a, b) => a - b)
  const together = size - (last - first) * rate * 1e6 / 8
  return Math.max(0, together) * 8 / first / rate / 1e4
}

function folders (results) {
  const measured = ['folder-small', 'folder-large'].map(id => results[id]).filter(Boolean)
  if (!measured.length) return ''
  const rows = measured.map((folder) => {
    const of = figure => median(folder.runs.map(figure)).toFixed(1)
    const others = BESIDE.map((program) => {
      const taken = folder[program]
      return taken?.missing ? `missing: ${taken.missing}` : median(taken).toFixed(1)
    })
    return [`${folder.files} files of ${bytes(folder.size)}`, of(({ seconds }) => seconds), of(({ whole }) => whole), ...others,
      of(({ cpu }) => cpu.sender), of(({ cpu }) => cpu.receiver)]
  })
  return '## Folders\n\nSeconds from the claim of the offer to the verified folder, and of the whole call, in which the sender reads all of it once ' +
    'before it offers it; of other programs those of the receiving one, as above. The folders are in memory, with links, rights and ' +
    'times of their own; each copy is compared with the original, entry by entry (of sendme\'s only the bytes: it keeps no more).\n\n' +
    markdown(['', 'ats-p2p', '`send()`, whole', ...BESIDE.map(program => NAMES[program]), 'sender, s of processor', 'receiver, s'], rows)
}

function growth ({ growth: measured }) {
  if (!measured) return ''
  const rows = measured.sizes.map(({ size, runs }) => {
    const cpu = perGib({ runs: runs.map(run => ({ ...run, bytes: size })) })
    const peak = end => (Math.max(...runs.map(({ peak }) => peak[end])) / MB).toFixed(0)
    const claimed = median(runs.map(({ seconds }) => size / MB / seconds))
    const connected = median(runs.map(run => size / MB / run.connected))
    return [bytes(size), String(runs.length), claimed.toFixed(0), connected.toFixed(0), cpu.sender.toFixed(2), cpu.receiver.toFixed(2), peak('sender'), peak('receiver')]
  })
  return '## Growth\n\nFrom small files to large ones, ats-p2p to ats-p2p. What small files cost a byte is the price of a transfer, ' +
    'not of its bytes; and where a virtual machine gets memory only as it touches it, any program pays for the first gigabytes ' +
    'that it writes there (`dd` to the same folder shows how much).\n\n' +
    markdown(['file', 'runs', 'MB/s from the claim', 'MB/s from the connection', 'sender, s a GiB', 'receiver, s a GiB', 'sender\'s peak, MB', 'receiver\'s peak, MB'], rows)
}

function connections ({ parallel }) {
  if (!parallel) return ''
  const rows = parallel.connections.map(({ connections, runs }) => {
    const cpu = perGib({ runs })
    const peak = end => (Math.max(...runs.map(({ peak }) => peak[end])) / MB).toFixed(0)
    return [String(connections), median(runs.map(rate)).toFixed(0), cpu.sender.toFixed(2), cpu.receiver.toFixed(2), peak('sender'), peak('receiver')]
  })
  return `From one connection to many, ${bytes(parallel.total)} in all, between the same two nodes:\n\n` +
    markdown(['transfers at once', 'MB/s', 'sender, s a GiB', 'receiver, s a GiB', 'sender\'s peak, MB', 'receiver\'s peak, MB'], rows)
}

/** Megabytes a second since the connection stood. */
function onLink ({ bytes: size, connected }) {
  return size / MB / connected
}

function ratio (number) {
  return `${number.toFixed(2)} ×`
}

function bytes (size) {
  if (size < MB) return `${size / 1000} KB`
  if (size % MIB) return size % 1e9 ? `${size / MB} MB` : `${size / 1e9} GB`
  return size % 2 ** 30 ? `${size / MIB} MiB` : `${size / 2 ** 30} GiB`
}

function markdown (head, rows) {
  const line = cells => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map((_, i) => i ? '---:' : '---')), ...rows.map(line)].join('\n')
}

module.exports = { table }
