// What docs/nat.md says, from what was measured.
const { LARGE, PLACE_NAMES } = require('./cases')

function document ({ pairings, further, places, product, small, twice, large }, peers) {
  const head = (what) => [
    `| ${what} | ${peers.map((pair) => pair.replaceAll('js', 'JS')).join(' | ')} | path |`,
    `|---|${peers.map(() => '---|').join('')}---|`
  ]
  return [
    '# Peers behind NATs',
    '',
    'Measured in a lab of network namespaces on one machine by one command, `npm run test:nat -- --write`, which writes',
    'this file; it needs root, iproute2, nftables and OpenSSL.',
    '',
    '## The whole product',
    '',
    'A hub (`ats-p2p hub`, with TLS at port 443) in the "internet", `ats-p2p send` in one place and `ats-p2p listen` in',
    'another. Each figure is the time from the offer until both ends said that they were connected, and means that a file',
    'of 3 MB arrived whole and was verified; the path is that of the last connection, as they tell it. One second is what a',
    'node takes to find that no UDP gets out of where it is, at its first transfer there, and the head start that UDP has.',
    '',
    '- `open`: no NAT.',
    '- `cone`: one port outside for each port inside; lets in only whom something was sent to.',
    '- `symmetric`: another port outside, at random, for each whom something is sent to.',
    '- `carrier`: the cone of a home behind the cone of a provider, which has some ports for each home.',
    '- `no UDP`: a cone that lets everything out but UDP.',
    '- `443 only`: a cone that lets nothing out but TCP to port 443.',
    '- `proxy`: nothing gets out, and no name is known, but through an HTTP proxy (`HTTPS_PROXY`); one that asks for a',
    '  name and a password; and one that reads what passes under an authority of its own (`NODE_EXTRA_CA_CERTS`).',
    '- `IPv6 alone`: no NAT, and no IPv4. Where both ends are so, the hub is so too and has no DHT.',
    '- `MTU 1000`: a cone whose way out carries packets up to 1000 bytes, and routers that say so; `MTU 576, silent`: they',
    '  drop larger ones without a word, but tell TCP when it connects.',
    '',
    `| sender \\ recipient | ${PLACE_NAMES.join(' | ')} |`,
    `|---|${PLACE_NAMES.map(() => '---|').join('')}`,
    ...places.map((row, index) => `| **${PLACE_NAMES[index]}** | ${row.map(placed).join(' | ')} |`),
    '',
    'Further networks; `in all` is the time from the start of `send` until it said that the recipient has verified the file.',
    'Each figure is the median of several runs, each in a lab of its own.',
    '',
    '| sender : recipient | connected | in all | path |',
    '|---|---|---|---|',
    ...product.map(productLine),
    '',
    'Links that carry small packets only: those of the peer itself, or of its router, which say so or, `silent`, do not. At',
    'the other end is a cone. The path, and the time in all.',
    '',
    '| packets up to | at the sender\'s end | at the recipient\'s | at both |',
    '|---|---|---|---|',
    ...small.map(smallLine),
    '',
    'Two files, one after the other, by one node:',
    '',
    '| sender : recipient | the first connected | the second | path |',
    '|---|---|---|---|',
    ...twice.map(twiceLine),
    '',
    ...largeText(large),
    '',
    '## The network\'s own peers',
    '',
    'Time until the client was connected. Six DHT nodes of ours in the "internet", the server behind the first NAT, the',
    'client behind the second; `ours` is this package\'s stack, `JS` is npm hyperdht 6.34.0, the server\'s named first. Each',
    'figure is the median of several runs, each in a lab of its own, and means that 3 MB were delivered afterwards. Where one',
    'NAT is symmetric, ports are guessed: times vary by chance, and the longest is given where it is far from the median.',
    'With a relay: the server names a peer of ours in the "internet" that relays where no direct way opens.',
    '',
    ...head('server : client'),
    ...pairings.map((row) => line(row, peers)),
    '',
    'Further kinds:',
    '',
    ...head(''),
    ...further.map((row) => line(row, peers)),
    ''
  ].join('\n')
}

function line ({ name, cells }, peers) {
  return `| ${name} | ${peers.map((pair) => cell(cells[pair])).join(' | ')} | ${route(cells)} |`
}

function cell ({ delivered, times, codes }) {
  if (!delivered) return no(codes)
  const longest = times.at(-1)
  return longest > 3 * median(times) && longest > 1000 ? `${time(median(times))} (to ${time(longest)})` : time(median(times))
}

function route (cells) {
  return Object.values(cells).map((cell) => cell.path).find((path) => path) ?? '–'
}

// By which path, and how soon it was there.
function placed ({ delivered, codes, path, connects }) {
  return delivered ? `${path} ${time(connected(connects, 0))}` : no(codes)
}

// The same, and how long it took in all.
function told (result) {
  return result.delivered ? `${placed(result)}, ${time(median(result.times))} in all` : placed(result)
}

function productLine ({ name, delivered, codes, times, connects, path }) {
  const figures = delivered ? [time(connected(connects, 0)), time(median(times)), path] : [no(codes), '–', '–']
  return `| ${[name, ...figures].join(' | ')} |`
}

function smallLine ({ name, cells: { sender, recipient, both } }) {
  const all = ({ delivered, codes, path, times }) => delivered ? `${path} ${time(median(times))}` : no(codes)
  return `| ${[name.replace('MTU ', ''), ...[sender, recipient, both].map(all)].join(' | ')} |`
}

function twiceLine ({ name, delivered, codes, connects, path }) {
  const figures = delivered ? [time(connected(connects, 0)), time(connected(connects, 1)), path] : [no(codes), '–', '–']
  return `| ${[name.replace('two files, ', ''), ...figures].join(' | ')} |`
}

function largeText ({ delivered, ms, path, memory }) {
  if (!delivered || path !== 'relayed') throw new Error(`the large file went another way: ${path}`)
  const rate = LARGE.bytes / 2 ** 20 / (ms / 1000)
  return [
    `A file of 256 MiB, symmetric:symmetric: ${time(ms)}, which is ${rate.toFixed(1)} MiB/s of the 32 that the relay of a hub`,
    `lets pass for a pair unless told otherwise. The hub's process had held ${memory.before.toFixed(1)} MiB of memory at most before it, and`,
    `${memory.after.toFixed(1)} MiB after it.`
  ]
}

// When the file of this number was connected, in the middle of several runs.
function connected (connects, file) {
  return median(connects.map((times) => times[file]).sort((a, b) => a - b))
}

function median (sorted) {
  return sorted[Math.floor(sorted.length / 2)]
}

function time (ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}

function no (codes) {
  return codes?.length ? `no (${codes.at(-1)})` : 'no'
}

module.exports = { document, largeText, line, told }
