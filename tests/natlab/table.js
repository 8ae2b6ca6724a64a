// Connects and delivers between peers behind NATs of all kinds, ours and npm hyperdht's, and files
// by the command line of the whole product, and tells how long it took. All takes half an hour; the product has to be
// built (`npm run build`).
//
//   npm run test:nat                                  all, told line by line
//   npm run test:nat -- --write                       and written to docs/nat.md
//   npm run test:nat -- --only 'cone:symmetric;product, proxy:*' --peers ours:js,js:js --runs 5
//
// Needs root, iproute2 and nftables, for the product OpenSSL too; says so where it cannot run. The exit code is 1
// where the product did not deliver.
const { execFileSync } = require('node:child_process')
const fs = require('node:fs')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { FURTHER, LARGE, PAIRINGS, PLACES_PAIRED, PRODUCT, SMALL, TWICE } = require('./cases')
const { document, largeText, line, told } = require('./document')
const { Lab, NODES, unavailable } = require('./lab')
const { deliver, noCertificates } = require('./product')

const ROOT = path.join(__dirname, '../..')
const NATPEER = path.join(ROOT, 'target/debug/examples/natpeer')
const DOCUMENT = path.join(ROOT, 'docs/nat.md')
const BYTES = 3_000_000
const BOOTSTRAP = NODES.slice(0, 3).join(',')
// Longer than any connection that still comes about; three attempts are made meanwhile.
const PATIENCE = 90_000
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
  const reason = unavailable() ?? noCertificates
  if (reason) return console.log(`skipped: ${reason}`)

  const peers = values.peers ? values.peers.split(',') : PEERS
  const wanted = values.only?.split(';')
  const isWanted = ({ name }) => wanted?.some((only) => only.endsWith('*') ? name.startsWith(only.slice(0, -1)) : name === only) ?? true
  const runs = Number(values.runs)
  const [pairings, further] = [PAIRINGS, FURTHER].map((cases) => cases.filter(isWanted))
  if (pairings.length + further.length > 0) {
    execFileSync('cargo', ['build', '-q', '-p', 'hyperdht', '--example', 'natpeer'], { cwd: ROOT, stdio: 'inherit' })
  }
  const tables = {
    pairings: await networkTable(pairings, peers, runs),
    further: await networkTable(further, peers, runs),
    ...await productTables(isWanted, runs)
  }
  // A part of the cases is no document.
  if (values.write && !values.only) fs.writeFileSync(DOCUMENT, document(tables, peers))
}

async function networkTable (cases, peers, runs) {
  const rows = []
  for (const one of cases) {
    const { idle = 0, relay = false } = one
    const row = { name: one.name, cells: {} }
    for (const pair of peers) {
      row.cells[pair] = await repeat(one.lab, one.runs ?? runs, (network) => connect(network, pair, { idle, relay }))
    }
    rows.push(row)
    console.log(line(row, peers))
  }
  return rows
}

async function productTables (isWanted, runs) {
  const places = []
  for (const cases of PLACES_PAIRED) {
    const row = []
    for (const one of cases.filter(isWanted)) row.push(await product(one, 1))
    places.push(row)
  }
  const [rows, twice] = [[], []]
  for (const one of PRODUCT.filter(isWanted)) rows.push(await product(one, runs))
  for (const one of TWICE.filter(isWanted)) twice.push(await product(one, runs))
  const small = []
  for (const { name, ends } of SMALL) {
    const row = { name, cells: {} }
    for (const [end, lab] of Object.entries(ends)) {
      const one = { name: `product, ${name}: ${end}`, lab }
      if (isWanted(one)) row.cells[end] = await product(one, 1)
    }
    small.push(row)
  }
  let large = null
  if (isWanted(LARGE)) {
    const network = await Lab.up(LARGE.lab)
    large = await deliver(network, LARGE).finally(() => network.down())
    console.log(largeText(large).join('\n'))
  }
  return { places, product: rows, small, twice, large }
}

async function product ({ name, lab, files }, runs) {
  const measured = await repeat(lab, runs, (network) => deliver(network, { bytes: BYTES, files }))
  const result = { name: name.replace('product, ', ''), ...measured }
  console.log(`${name}: ${told(result)}`)
  if (!result.delivered) process.exitCode = 1
  return result
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
  const connects = results.map((result) => result.connects)
  return { delivered, codes: results.at(-1).codes, path: paths.join(' or '), times, connects }
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

module.exports = { NATPEER, connect }
if (require.main === module) main()
