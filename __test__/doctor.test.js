'use strict'

// What the doctor finds, fault by fault, and what it says where nothing is wrong.

const assert = require('node:assert/strict')
const { once } = require('node:events')
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')
const path = require('node:path')
const { test } = require('node:test')
const { doctor, waitForDoctor } = require('..')
const { findOpenssl, makeCertificate } = require('./fixtures/certificate')
const { cli, defer, failure, hub, tempFolder } = require('./fixtures/harness')
const { proxy } = require('./fixtures/proxy')

const LIMIT = { timeout: 90_000 }
const opensslOnly = findOpenssl() ? LIMIT : { ...LIMIT, skip: 'skipped: no OpenSSL is installed to make a certificate' }
// Where nobody answers, whatever is sent.
const NOBODY = '127.0.0.1:9'

/** In a network of four nodes, the one that tries the server socket may answer after all others: then it is not known to be open. */
const whichDirect = ways => ways[0] === 'punched' ? 'punched' : 'direct'

test('the doctor', { ...LIMIT, concurrency: true }, async (t) => {
  const { url } = await hub(t, { allowedHosts: ['hub.test'], open: true })

  await Promise.all([
    t.test('finds nothing where all is well', LIMIT, async (t) => {
      const { ok, ways, checks, of } = await examine(t, { atsUrl: url, actorId: 'a', channel: 'c' })
      assert.equal(ok, true, JSON.stringify(checks))
      assert.deepEqual(ways, [whichDirect(ways), 'relayed', 'tunnel'])
      assert.deepEqual(checks.map(({ check }) => check), [
        'settings', 'state', 'identity', 'disk', 'addresses', 'proxy', 'certificate', 'service', 'events', 'clock',
        'network', 'nat', 'mtu', 'relay', 'tunnel'
      ])
      assert.deepEqual(checks.filter(({ status }) => status === 'failed' || status === 'skipped'), [])
      assert.equal(of('settings').facts.sources.atsUrl, 'option')
      assert.equal(of('settings').facts.sources.organization, 'default')
      assert.equal(of('service').facts.hub, true)
      assert.ok(of('network').facts.nodes >= 1)
      assert.ok(Math.abs(of('clock').facts.differenceMs) < 60_000)
    }),

    t.test('says so from the shell', LIMIT, async (t) => {
      const text = await cli(t, ['doctor', '--ats-url', url]).ended
      assert.deepEqual([text.code, text.stderr], [0, ''], text.stdout)
      assert.match(text.stdout, /^ok +settings +task service http:.*\n(.*\n)+Nothing stands in the way of transfers: files go directly(, through NATs)?, else by the relay, else by the tunnel\.$/)
      const json = await cli(t, ['doctor', '--json'], { env: { ATS_URL: url } }).ended
      assert.equal(json.code, 0, json.stdout)
      const lines = json.stdout.split('\n').map(line => JSON.parse(line))
      const { ways } = lines.at(-1)
      assert.deepEqual(lines.at(-1), { event: 'diagnosis', ok: true, failed: [], ways: [whichDirect(ways), 'relayed', 'tunnel'] })
      assert.equal(lines[0].facts.sources.atsUrl, 'ATS_URL')
    }),

    t.test('reaches another machine by the key that it shows', LIMIT, async (t) => {
      const waiting = cli(t, ['doctor', '--wait', '--ats-url', url, '--json'])
      const { key } = await waiting.line('waiting')
      const { ok, of } = await examine(t, { atsUrl: url, peer: key })
      assert.equal(ok, true)
      assert.equal(of('peer').facts.path, 'lan')
      assert.ok(of('peer').facts.connectMs > 0)
      assert.equal((await waiting.line('reached')).path, 'lan')
      waiting.kill('SIGINT')
      assert.equal((await waiting.ended).code, 130)
    }),

    t.test('says that nobody knows a key', LIMIT, async (t) => {
      const { ok, of } = await examine(t, { atsUrl: url, peer: 'ab'.repeat(32) })
      assert.equal(ok, false)
      assert.equal(of('peer').status, 'failed')
      assert.equal(of('peer').facts.step, 'lookup')
      assert.match(of('peer').advice, /--wait/)
    }),

    t.test('finds no service at its address', LIMIT, async (t) => {
      const server = net.createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      const { port } = server.address()
      server.close()
      const { code, stdout } = await cli(t, ['doctor', '--ats-url', `http://127.0.0.1:${port}`]).ended
      assert.equal(code, 16)
      assert.match(stdout, /^FAIL +service +cannot reach .*\n +→ start the service/m)
      assert.match(stdout, /^FAIL +events/m)
      assert.match(stdout, /^- +network/m)
      assert.match(stdout, /To be mended: service, events\.$/)
    }),

    t.test('finds a service that does not let it in', LIMIT, async (t) => {
      const atsUrl = await service(t, (request, response) => {
        const known = request.url.startsWith('/health')
        response.writeHead(known ? 200 : 401, { 'content-type': 'application/json' })
        response.end(known ? '{"status":"ok"}' : '{"error":"no such key"}')
      })
      const { of } = await examine(t, { atsUrl, apiKey: 'wrong', bootstrap: [NOBODY] })
      assert.equal(of('service').status, 'failed')
      assert.match(of('service').found, /401: no such key/)
      assert.match(of('service').advice, /ats-p2p join.*ATS_API_KEY/)
      assert.equal(of('settings').facts.apiKey, true)
      assert.doesNotMatch(JSON.stringify(of('settings')), /wrong/)
    }),

    t.test('finds a web page in the place of the service', LIMIT, async (t) => {
      const atsUrl = await service(t, (request, response) => {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>Please log in</html>')
      })
      const { of } = await examine(t, { atsUrl, bootstrap: [NOBODY] })
      assert.match(of('service').found, /text\/html/)
      assert.match(of('service').advice, /a login page/)
      assert.equal(of('events').status, 'failed')
    }),

    t.test('finds that events do not come through', LIMIT, async (t) => {
      const atsUrl = await through(t, url, (request) => request.url.startsWith('/ws') ? 403 : null)
      const { ok, of } = await examine(t, { atsUrl })
      assert.equal(ok, true)
      assert.equal(of('service').status, 'ok')
      assert.equal(of('events').status, 'warning')
      assert.match(of('events').found, /403.*: the service is asked every 5 s instead/)
      assert.match(of('events').advice, /WebSocket/)
    }),

    t.test('finds a clock that is wrong', LIMIT, async (t) => {
      const atsUrl = await through(t, url, () => null, { date: new Date(Date.now() + 3_600_000).toUTCString() })
      const { ok, of } = await examine(t, { atsUrl })
      assert.deepEqual([ok, of('clock').status], [true, 'warning'])
      assert.match(of('clock').found, /3[56]\d\d s behind/)
      assert.match(of('clock').advice, /clock/)
    }),

    t.test('finds a state folder that cannot be used', LIMIT, async (t) => {
      const home = path.join(tempFolder(t), 'home')
      fs.writeFileSync(home, 'no folder')
      const { ok, of } = await examine(t, { atsUrl: url, home })
      assert.equal(ok, false)
      assert.equal(of('state').status, 'failed')
      assert.match(of('state').advice, /ATS_P2P_HOME/)
    }),

    t.test('finds that UDP goes nowhere', LIMIT, async (t) => {
      const { ok, of } = await examine(t, { atsUrl: url, bootstrap: [NOBODY], tunnel: false, peer: 'ab'.repeat(32) })
      assert.equal(ok, false)
      assert.equal(of('network').status, 'failed')
      assert.match(of('network').found, /no node of 127\.0\.0\.1:9 answers over UDP$/)
      assert.equal(of('tunnel').status, 'skipped')
      assert.equal(of('nat').status, 'skipped')
      assert.equal(of('relay').status, 'skipped')
      assert.equal(of('peer').status, 'failed')
      assert.equal(of('service').status, 'ok')
    }),

    t.test('finds that files go by the tunnel where UDP goes nowhere', LIMIT, async (t) => {
      const { ok, ways, of } = await examine(t, { atsUrl: url, bootstrap: [NOBODY] })
      assert.deepEqual([ok, ways], [true, ['tunnel']])
      assert.equal(of('network').status, 'warning')
      assert.match(of('network').found, /: files go by the tunnel alone$/)
      assert.deepEqual([of('tunnel').status, of('tunnel').facts.at], ['ok', url])
    }),

    t.test('finds that the name of a bootstrap node leads nowhere', LIMIT, async (t) => {
      const { ok, of } = await examine(t, { atsUrl: url, bootstrap: ['dht.invalid:49737'], tunnel: false })
      assert.deepEqual([ok, of('network').status], [false, 'failed'])
      assert.match(of('network').found, /: no address is found for dht\.invalid$/)
      assert.match(of('network').advice, /name servers/)
    }),

    t.test('finds a proxy that wants a password, and one that opens no connections', LIMIT, async (t) => {
      const port = new URL(url).port
      const through = async (way) => {
        const env = { ATS_URL: 'http://hub.test', HTTP_PROXY: way }
        const { stdout } = await cli(t, ['doctor', '--json', '--bootstrap', NOBODY], { env }).ended
        const lines = stdout.split('\n').map(line => JSON.parse(line))
        return { ...lines.at(-1), of: name => lines.find(({ check }) => check === name) }
      }
      const asking = await proxy(t, port, { password: 'me:secret' })
      const without = await through(asking.url.replace('me:secret@', ''))
      assert.deepEqual([without.ok, without.of('proxy').status, without.of('service').status], [false, 'failed', 'failed'])
      assert.match(without.of('proxy').found, /\(HTTP_PROXY\) asks for a name and a password \(407\)/)
      assert.match(without.of('proxy').advice, /^put the name and password into HTTP_PROXY/)
      assert.deepEqual(without.of('proxy').facts, { answer: 407, proxy: asking.url.replace('me:secret@', ''), variable: 'HTTP_PROXY' })
      const within = await through(asking.url)
      assert.deepEqual([within.ok, within.ways, within.of('proxy').status], [true, ['tunnel'], 'ok'])
      assert.doesNotMatch(JSON.stringify(within.of('proxy')), /secret/)

      const plain = await through((await proxy(t, port, { plainOnly: true })).url)
      assert.deepEqual([plain.of('proxy').status, plain.of('service').status, plain.of('events').status], ['warning', 'ok', 'warning'])
      assert.match(plain.of('proxy').found, /403 Forbidden; it passes plain requests on$/)
      assert.match(plain.of('proxy').advice, /CONNECT to hub\.test through/)
    }),

    t.test('tells whose certificate a service shows', opensslOnly, async (t) => {
      const { cert, keyFile } = makeCertificate(tempFolder(t))
      const { url } = await hub(t, { cert, keyFile })
      const refused = (await examine(t, { atsUrl: url })).of('certificate')
      assert.equal(refused.status, 'failed')
      assert.match(refused.found, /it is signed by itself \(127\.0\.0\.1\), and this machine does not know it$/)
      assert.match(refused.advice, /NODE_EXTRA_CA_CERTS/)
      const { of } = await examine(t, { atsUrl: url, ca: cert })
      assert.equal(of('certificate').status, 'warning')
      assert.match(of('certificate').found, /^trusted; it is by 127\.0\.0\.1, and ends on \d{4}-\d\d-\d\d$/)
      assert.match(of('certificate').advice, /renew/)
    }),

    t.test('finds settings that make no request possible', LIMIT, async (t) => {
      const { code, stdout } = await cli(t, ['doctor', '--json'], { env: { ATS_URL: 'nowhere' } }).ended
      assert.equal(code, 16)
      const lines = stdout.split('\n').map(line => JSON.parse(line))
      assert.equal(lines[0].status, 'failed')
      assert.match(lines[0].found, /ATS_URL/)
      assert.deepEqual(lines.at(-1).failed, ['settings'])
    })
  ])
})

test('what the doctor cannot be asked', LIMIT, async (t) => {
  await assert.rejects(doctor({ peer: 'agent-b' }), failure('INVALID_ARGUMENT'))
  const { code, stderr } = await cli(t, ['doctor', '--peer', 'agent-b']).ended
  assert.equal(code, 2)
  assert.match(stderr, /64 hex digits/)
  await assert.rejects(waitForDoctor({ atsUrl: 'http://127.0.0.1:1', home: tempFolder(t) }), failure('ATS_UNREACHABLE'))
})

/** A diagnosis with a state folder of its own, and `of` to look one check up. */
async function examine (t, options) {
  const home = path.join(tempFolder(t), 'home')
  const diagnosis = await doctor({ home, ...options })
  return { ...diagnosis, of: name => diagnosis.checks.find(({ check }) => check === name) }
}

/** Something that listens where a task service should; its URL. */
async function service (t, listener) {
  const server = http.createServer(listener).listen(0, '127.0.0.1')
  await once(server, 'listening')
  defer(t, () => {
    server.closeAllConnections()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}

/** A proxy before the hub that refuses what `refuse` gives a status for, and changes headers of what it lets through. */
async function through (t, url, refuse, headers = {}) {
  const server = http.createServer((request, response) => {
    const status = refuse(request)
    if (status) return response.writeHead(status).end()
    const onward = http.request(new URL(request.url, url), { method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, { ...answer.headers, ...headers })
      answer.pipe(response)
    })
    onward.on('error', () => response.destroy())
    request.pipe(onward)
  })
  server.on('upgrade', (request, socket) => {
    const status = refuse(request)
    if (status) return socket.end(`HTTP/1.1 ${status} Forbidden\r\nContent-Length: 0\r\n\r\n`)
    const { port, hostname } = new URL(url)
    const onward = net.connect(port, hostname, () => {
      const lines = request.rawHeaders.flatMap((name, i, all) => i % 2 ? [] : [`${name}: ${all[i + 1]}`])
      onward.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`)
      socket.pipe(onward).pipe(socket)
    })
    for (const end of [socket, onward]) end.on('error', () => { socket.destroy(); onward.destroy() })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const sockets = new Set()
  server.on('connection', socket => sockets.add(socket))
  defer(t, () => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  return `http://127.0.0.1:${server.address().port}`
}
