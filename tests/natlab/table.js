// Connects and delivers between peers behind NATs of all kinds, ours and npm hyperdht's, and files
// by the command line of the whole product, and tells how long it took. All takes a quarter of an
// hour; the product has to be built (`npm run build`).
//
//   npm run test:nat                                  all, as a table on standard output
//   npm run test:nat -- --write                       and into docs/nat.md
//   npm run test:nat -- --only 'cone:symmetric;one network' --peers ours:js,js:js --runs 5
//
// Needs root, iproute2 and nftables; says so where it cannot run.
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { Lab, NODES, unavailable } = require('./lab')
const { deliver } = require('./product')

const ROOT = path.join(__dirname, '../..')
const NATPEER = path.join(ROOT, 'target/debug/examples/natpeer')
const DOCUMENT = path.join(ROOT, 'docs/nat.md')
const BYTES = 3_000_000
const BOOTSTRAP = NODES.slice(0, 3).join(',')
// Longer than any connection that still comes about; three attempts are made meanwhile.
const PATIENCE = 90_000

const LAYERS = { open: [], cone: ['cone'], symmetric: ['symmetric'] }
const PAIRINGS = Object.keys(LAYERS).flatMap((a) => Object.keys(LAYERS).map((b) => ({
  name: `${a}:${b}`,
  lab: { a: LAYERS[a], b: LAYERS[b] }
})))
const FURTHER = [
  { name: 'two cones in a row : cone', lab: { a: ['cone', 'cone'], b: ['cone'] } },
  { name: 'two cones in a row, both', lab: { a: ['cone', 'cone'], b: ['cone', 'cone'] } },
  { name: 'symmetric outside a cone : cone', lab: { a: ['symmetric', 'cone'], b: ['cone'] } },
  { name: 'one network', lab: { shared: ['cone'] } },
  { name: 'two homes behind one NAT that hairpins', lab: { shared: ['hairpin'], a: ['cone'], b: ['cone'] } },
  { name: 'two homes behind one NAT that does not', lab: { shared: ['cone'], a: ['cone'], b: ['cone'] } },
  { name: 'UDP blocked between the peers', lab: { a: ['cone'], b: ['cone'], blocked: true } },
  { name: 'symmetric:symmetric, with a relay', lab: { a: ['symmetric'], b: ['symmetric'] }, relay: true },
  { name: 'UDP blocked between the peers, with a relay', lab: { a: ['cone'], b: ['cone'], blocked: true }, relay: true },
  { name: 'routers that forget what is idle for 30 s, after 45 s idle', lab: { a: ['cone'], b: ['cone'], udpTimeout: 30 }, idle: 45, runs: 1 }
]
// Where no UDP gets out the network's own peers have no way at all: these are for the product.
const WEB = [['web', 'web'], ['web', 'open'], ['open', 'web'], ['web', 'cone'], ['cone', 'web'], ['web', 'symmetric'], ['symmetric', 'web']]
const PRODUCT = [
  ...['open:open', 'cone:cone', 'cone:symmetric', 'symmetric:cone', 'symmetric:symmetric'].map((name) => ({
    ...PAIRINGS.find((pairing) => pairing.name === name),
    name: `product, ${name}`
  })),
  ...WEB.map(([a, b]) => ({ name: `product, ${a}:${b}`, lab: { a: LAYERS[a] ?? [a], b: LAYERS[b] ?? [b] } })),
  { name: 'product, open:open with UDP blocked between them', lab: { blocked: true } },
  { name: 'product, cone:cone with UDP blocked between them', lab: { a: ['cone'], b: ['cone'], blocked: true } }
]
const LARGE = { name: 'product, 256 MiB', lab: { a: ['symmetric'], b: ['symmetric'] }, bytes: 256 << 20 }
const PEERS = ['ours:ours', 'ours:js', 'js:ours', 'js:js']

async function main () {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      peers: { type: 'string' },
      runs: { type: 'string', default: '3' },
      write: { type: 'boolean', default: false }
    }
  })
  const reason = unavailable()
  if (reason) return console.log(`skipped: ${reason}`)
  execFileSync('cargo', ['build', '-q', '-p', 'hyperdht', '--example', 'natpeer'], { cwd: ROOT, stdio: 'inherit' })

  const peers = values.peers ? values.peers.split(',') : PEERS
  const wanted = ({ name }) => !values.only || values.only.split(';').includes(name)
  const tables = []
  for (const cases of [PAIRINGS, FURTHER]) {
    const rows = []
    for (const one of cases.filter(wanted)) {
      const row = { name: one.name, cells: {} }
      for (const pair of peers) row.cells[pair] = await measure(one, pair, one.runs ?? Number(values.runs))
      rows.push(row)
      console.log(line(row, peers))
    }
    tables.push(rows)
  }
  const product = []
  for (const one of PRODUCT.filter(wanted)) {
    const measured = await repeat(one.lab, Number(values.runs), (network) => deliver(network, { bytes: BYTES }))
    product.push({ name: one.name.replace('product, ', ''), ...measured })
    console.log(productLine({ ...measured, name: one.name }))
  }
  tables.push(product)
  if (wanted(LARGE)) {
    const network = await Lab.up(LARGE.lab)
    const large = await deliver(network, LARGE).finally(() => network.down())
    tables.push(large)
    console.log(largeText(large).join('\n'))
  }
  // A part of the cases is no document.
  if (values.write && !values.only) fs.writeFileSync(DOCUMENT, document(tables, peers))
}

function measure ({ lab, idle = 0, relay = false }, pair, runs) {
  return repeat(lab, runs, (network) => connect(network, pair, { idle, relay }))
}

// Several runs of one case: one lab each, so that no router remembers anything.
async function repeat (lab, runs, run) {
  const results = []
  for (let i = 0; i < runs; i++) {
    const network = await Lab.up(lab)
    try {
      results.push(await run(network))
    } finally {
      await network.down()
    }
    if (!results.at(-1).delivered) break
  }
  const delivered = results.every((result) => result.delivered)
  const times = results.map((result) => result.ms).sort((a, b) => a - b)
  const paths = [...new Set(results.map((result) => result.path))].filter(Boolean)
  return { delivered, codes: results.at(-1).codes, path: paths.join(' or '), times }
}

// Server in A, client in B: connects, delivers half, rests, delivers the rest. `connected` is called when they have connected.
async function connect (lab, pair, { idle = 0, relay = false, bytes = BYTES, connected = () => {} } = {}) {
  const [server, client] = pair.split(':')
  const nodes = lab.start('inet', NATPEER, ['nodes', ...NODES])
  const network = await expect(nodes, 'ready')
  const listening = start(lab, server, 'pa', ['serve', BOOTSTRAP, ...(relay ? [network.relay] : [])])
  const { publicKey } = await expect(listening, 'ready')
  const dialling = start(lab, client, 'pb', ['dial', BOOTSTRAP, publicKey, bytes, idle])
  const result = { delivered: false, ms: null, path: null, codes: [] }
  for (;;) {
    const event = await dialling.next(['connected', 'failed', 'delivered', 'lost'], PATIENCE + idle * 1000)
    if (event?.event === 'failed') result.codes.push(event.code)
    else if (event?.event === 'connected') {
      Object.assign(result, { ms: event.ms, path: event.path })
      await connected(nodes)
    } else {
      result.delivered = event?.event === 'delivered' && event.ok
      result.lastPath = event?.path
      return result
    }
  }
}

function start (lab, who, where, args) {
  const [command, first] = who === 'js' ? [process.execPath, [path.join(__dirname, 'peer.js')]] : [NATPEER, []]
  return lab.start(where, command, [...first, ...args.map(String)])
}

async function expect (program, name) {
  const event = await program.next([name], PATIENCE)
  if (event?.event !== name) throw new Error(`expected ${name}, got ${JSON.stringify(event)}`)
  return event
}

function line ({ name, cells }, peers) {
  return `| ${name} | ${peers.map((pair) => cell(cells[pair])).join(' | ')} | ${route(cells)} |`
}

function cell ({ delivered, times, codes }) {
  if (!delivered) return codes?.length ? `no (${codes.at(-1)})` : 'no'
  const median = times[Math.floor(times.length / 2)]
  return times.at(-1) > 3 * median && times.at(-1) > 1000 ? `${time(median)} (to ${time(times.at(-1))})` : time(median)
}

function time (ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`
}

function route (cells) {
  return Object.values(cells).map((cell) => cell.path).find((path) => path) ?? '–'
}

function productLine (measured) {
  return `| ${measured.name} | ${cell(measured)} | ${measured.path || '–'} |`
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

function document ([pairings, further, product, large], peers) {
  const head = (what) => [
    `| ${what} | ${peers.map((pair) => pair.replaceAll('js', 'JS')).join(' | ')} | path |`,
    `|---|${peers.map(() => '---|').join('')}---|`
  ]
  return [
    '# Peers behind NATs',
    '',
    'Time until the client was connected, in a lab of network namespaces on one machine (`npm run test:nat -- --write`,',
    `which writes this file; needs root, iproute2 and nftables). Six DHT nodes of ours in the "internet", the server behind`,
    'the first NAT, the client behind the second; `ours` is this package\'s stack, `JS` is npm hyperdht 6.34.0, the server\'s',
    'named first. Each figure is the median of several runs, each in a lab of its own, and means that 3 MB were delivered',
    'afterwards. Where one NAT is symmetric, ports are guessed: times vary by chance, and the longest is given where it is far',
    'from the median.',
    '',
    '- `open`: no NAT.',
    '- `cone`: one port outside for each port inside; lets in only whom something was sent to.',
    '- `symmetric`: another port outside, at random, for each whom something is sent to.',
    '- with a relay: the server names a peer of ours in the "internet" that relays where no direct way opens.',
    '',
    ...head('server : client'),
    ...pairings.map((row) => line(row, peers)),
    '',
    'Further kinds:',
    '',
    ...head(''),
    ...further.map((row) => line(row, peers)),
    '',
    '## The whole product',
    '',
    'The same lab with a hub (`ats-p2p hub`) in the "internet", `ats-p2p send` behind the first NAT and `ats-p2p listen`',
    'behind the second: the time from the start of `send` to its word that the recipient has verified the file of 3 MB,',
    'and the path as it tells it when the peers have connected. Where no direct way opens, the path is the hub\'s own relay.',
    '',
    '| sender : recipient | time | path |',
    '|---|---|---|',
    ...product.map(productLine),
    '',
    ...largeText(large),
    ''
  ].join('\n')
}

module.exports = { NATPEER, connect }
if (require.main === module) main()
