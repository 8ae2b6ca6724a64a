'use strict'

// A hub on the loopback address behind a reverse proxy, as servers of the web stand before others.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const path = require('node:path')
const { test } = require('node:test')
const { cli, defer, hub, makeFile, sha256, tempFolder } = require('./fixtures/harness')
const { proxy } = require('./fixtures/proxy')

const LIMIT = { timeout: 120_000 }
const PUBLIC = 'http://hub.example'

test('a hub behind a proxy whose name it does not know says what would help', LIMIT, async (t) => {
  const { url } = await hub(t, { open: true })
  const front = await reverseProxy(t, url, { keepsHost: true })
  const answer = await ask(front, '/health')
  assert.equal(answer.status, 421)
  assert.match(answer.body, /--public-url http:\/\/hub\.example/)
})

for (const keepsHost of [true, false]) {
  const how = keepsHost ? 'keeps the name that it was called by' : 'calls it by its address'
  test(`agents deliver a file through a proxy in front of the hub that ${how}`, LIMIT, async (t) => {
    const hubAt = await cli(t, ['hub', '--listen', 'localhost:0', '--open', '--public-url', PUBLIC, '--json']).line('listening')
    assert.deepEqual([hubAt.url, hubAt.urls], [PUBLIC, [PUBLIC]])
    const front = await reverseProxy(t, `http://${hubAt.address}`, { keepsHost })
    const { p2p } = JSON.parse((await ask(front, '/health')).body)
    // Nothing elsewhere reaches the nodes of its DHT.
    assert.deepEqual([p2p.bootstrap, p2p.relay, p2p.tunnel], [[], undefined, true])
    const page = await ask(front, '/', { origin: PUBLIC, accept: 'text/html' })
    assert.equal(page.status, 200, page.body)
    assert.equal((await ask(front, '/', { origin: 'http://evil.example' })).status, 403)

    // By this the agents find the name.
    const { url: way } = await proxy(t, front.port)
    const env = { ATS_URL: PUBLIC, HTTP_PROXY: way }
    const folder = tempFolder(t)
    const { filePath, hash } = makeFile(folder, 'report.bin', 1_000_000)
    const inbox = path.join(folder, 'in')
    const listener = cli(t, ['listen', '--actor-id', 'b', '--save-dir', inbox, '--json'], { env })
    assert.equal((await listener.line('connected')).atsUrl, PUBLIC)
    const sent = await cli(t, ['send', filePath, '--to', 'b', '--actor-id', 'a', '--json'], { env }).ended
    assert.equal(sent.code, 0, sent.stdout + sent.stderr)
    await listener.line('transfer_complete')
    assert.equal(sha256(fs.readFileSync(path.join(inbox, 'report.bin'))), hash)
    assert.ok(front.upgrades.some(target => target.startsWith('/ws')), front.upgrades.join())
  })
}

/** Passes requests and WebSockets on to `target`. Gives its `port`, and the targets of `upgrades`. */
async function reverseProxy (t, target, { keepsHost }) {
  const { hostname, port, host } = new URL(target)
  const upgrades = []
  const onward = ({ method, url, headers, socket }) => ({
    hostname,
    port,
    method,
    path: url,
    headers: { ...headers, host: keepsHost ? headers.host : host, 'x-forwarded-for': socket.remoteAddress }
  })
  const server = http.createServer((request, response) => {
    const passed = http.request(onward(request), (answer) => {
      response.writeHead(answer.statusCode, answer.headers)
      answer.pipe(response)
    })
    passed.on('error', () => response.destroy())
    request.pipe(passed)
  })
  const sockets = new Set()
  server.on('connection', socket => sockets.add(socket.on('close', () => sockets.delete(socket))))
  server.on('upgrade', (request, socket, head) => {
    upgrades.push(request.url)
    socket.on('error', () => {})
    const passed = http.request(onward(request))
    passed.on('error', () => socket.destroy())
    passed.on('response', (refusal) => {
      socket.write(`HTTP/1.1 ${refusal.statusCode} ${refusal.statusMessage}\r\nConnection: close\r\n\r\n`)
      refusal.pipe(socket)
    })
    passed.on('upgrade', (answer, far, first) => {
      const headers = Object.entries(answer.headers).map(([name, value]) => `${name}: ${value}\r\n`).join('')
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n`)
      socket.write(first)
      far.write(head)
      far.on('error', () => socket.destroy()).on('close', () => socket.destroy())
      socket.on('close', () => far.destroy())
      far.pipe(socket).pipe(far)
    })
    passed.end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  defer(t, () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return { port: server.address().port, upgrades }
}

/** Asks the proxy for a path of the public name, as who was led to it by that. */
async function ask ({ port }, path, headers = {}) {
  const request = http.request({ port, host: '127.0.0.1', path, headers: { host: new URL(PUBLIC).host, ...headers } })
  request.end()
  const [answer] = await once(request, 'response')
  let body = ''
  for await (const chunk of answer.setEncoding('utf8')) body += chunk
  return { status: answer.statusCode, body }
}
