'use strict'

// SIGINT, SIGTERM and SIGHUP: each command ends soon, whatever it waits for, and leaves nothing behind.

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const dgram = require('node:dgram')
const { once } = require('node:events')
const fs = require('node:fs')
const path = require('node:path')
const { test } = require('node:test')
const { cli, contents, hub, makeFile, node, tempFolder } = require('./fixtures/harness')
const { mutedService } = require('./fixtures/mute')

const LIMIT = { timeout: 60_000 }
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 }

// Who goes by the default is warned, and a key makes whoami ask.
const NAMED = { ATS_ACTOR_ID: 'a', ATS_API_KEY: 'a-key-of-the-test' }

// What a command is given to end, and how much more a busy machine may take in a test.
const SOON_MS = 300
const GOODBYE_MS = 2000
const MARGIN_MS = 4000

/** Sends a signal to a command: it ends with its code, and complains of nothing. The milliseconds that it took. */
async function interrupt (command, signal, limit, complaint = /^$/) {
  const started = performance.now()
  command.kill(signal)
  const { code, stderr } = await command.ended
  const took = performance.now() - started
  assert.equal(code, SIGNALS[signal], stderr)
  assert.match(stderr, complaint)
  assert.ok(took < limit + MARGIN_MS, `${took} ms`)
  return Math.round(took)
}

for (const signal of Object.keys(SIGNALS)) {
  test(`${signal} ends each command that waits for a task service which never answers`, LIMIT, async (t) => {
    const { filePath } = makeFile(tempFolder(t), 'x', 10)
    const commands = [['send', filePath, '--to', 'b'], ['listen'], ['status', 'x'], ['cancel', 'x'], ['doctor'], ['doctor', '--wait'], ['health'], ['whoami']]
    await Promise.all(commands.map(async (args) => {
      const service = await mutedService(t)
      const command = cli(t, [...args, '--ats-url', service.url], { env: NAMED })
      await service.asked()
      t.diagnostic(`${args[0]}: ${await interrupt(command, signal, GOODBYE_MS)} ms`)
    }))
    const bootstrap = dgram.createSocket('udp4').bind(0, '127.0.0.1')
    t.after(() => bootstrap.close())
    await once(bootstrap, 'listening')
    const command = cli(t, ['dht', '--host', '127.0.0.1', '--port', '0', '--bootstrap', `127.0.0.1:${bootstrap.address().port}`])
    await once(bootstrap, 'message')
    t.diagnostic(`dht: ${await interrupt(command, signal, SOON_MS)} ms`)
  })

  test(`${signal} ends each command that runs on`, LIMIT, async (t) => {
    const { url } = await hub(t)
    const { filePath } = makeFile(tempFolder(t), 'x', 10)
    const commands = [
      [['send', filePath, '--to', 'nobody', '--ats-url', url], 'offer_sent'],
      [['listen', '--ats-url', url], 'connected'],
      [['hub', '--listen', '127.0.0.1:0'], 'listening'],
      [['dht', '--host', '127.0.0.1', '--port', '0'], 'listening'],
      [['doctor', '--wait', '--ats-url', url], 'waiting'],
      [['demo'], 'listener']
    ]
    await Promise.all(commands.map(async ([args, event]) => {
      const command = cli(t, [...args, '--json'])
      const { taskId } = await command.line(event)
      t.diagnostic(`${args[0]}: ${await interrupt(command, signal, SOON_MS)} ms`)
      if (taskId) assert.equal((await (await node(t, url, 'a')).status(taskId)).status, 'cancelled')
    }))
  })
}

test('a signal ends what reads stdin', LIMIT, async (t) => {
  const told = path.join(tempFolder(t), 'told.js')
  fs.writeFileSync(told, "process.stdin.on('newListener', name => name === 'readable' && console.log('{\"event\":\"reading\"}'))")
  for (const args of [['join', 'http://127.0.0.1:9'], ['id', 'import', '-']]) {
    const command = cli(t, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { NODE_OPTIONS: `--require ${told}` } })
    await command.line('reading')
    await interrupt(command, 'SIGTERM', SOON_MS)
  }
})

test('a sender whose task service falls silent ends within its time, a second signal at once, and so does its resumption', LIMIT, async (t) => {
  const service = await mutedService(t, (await hub(t)).url)
  const { filePath } = makeFile(tempFolder(t), 'x', 10)
  const env = { ATS_P2P_HOME: path.join(tempFolder(t), 'state') }
  const offer = async () => {
    const command = cli(t, ['send', filePath, '--to', 'nobody', '--ats-url', service.url, '--json'], { env })
    await command.line('offer_sent')
    return command
  }
  const [patient, hasty] = [await offer(), await offer()]
  service.mute()
  const asked = service.asked()
  hasty.kill('SIGINT')
  // It asks for its offer to be withdrawn.
  await asked
  t.diagnostic(`twice: ${await interrupt(hasty, 'SIGINT', SOON_MS)} ms`)
  t.diagnostic(`once: ${await interrupt(patient, 'SIGINT', GOODBYE_MS)} ms`)
  const resumption = cli(t, ['resume', '--ats-url', service.url], { env })
  await service.asked()
  t.diagnostic(`resumption: ${await interrupt(resumption, 'SIGINT', GOODBYE_MS)} ms`)
})

test('a listener whose task service falls silent leaves nothing of the file that it receives', LIMIT, async (t) => {
  const { url } = await hub(t)
  const service = await mutedService(t, url)
  const folder = tempFolder(t)
  const file = makeFile(folder, 'x', 300_000_000)
  const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', service.url, '--json'], { cwd: folder })
  await listener.line('connected')
  const a = await node(t, url, 'a')
  const sent = a.send({ filePath: file.filePath, recipientId: 'b' })
  sent.catch(() => {})
  await listener.lineWhere(({ bytes }) => bytes > 0, 'a byte')
  service.mute()
  t.diagnostic(`${await interrupt(listener, 'SIGHUP', GOODBYE_MS, /^ats-p2p: x .*\(ATS_P2P_ABORTED\)\n$/)} ms`)
  assert.deepEqual(contents(path.join(folder, 'incoming')), [])
  await assert.rejects(sent)
})

test('a listener that was started by nohup goes on after SIGHUP', LIMIT, async (t) => {
  try {
    execFileSync('nohup', ['true'], { stdio: 'ignore' })
  } catch {
    return t.skip('no nohup here')
  }
  const { url } = await hub(t)
  const folder = tempFolder(t)
  const { filePath } = makeFile(folder, 'x', 10)
  const ways = [
    // What bash and zsh leave to a command that they start.
    { prefix: ['nohup'], env: { _: '/usr/bin/nohup' } },
    // What GNU's nohup makes of a terminal's stdin.
    ...fs.existsSync('/proc/self/fdinfo') ? [{ prefix: ['sh', '-c', 'exec nohup "$@" 0>/dev/null', 'sh'] }] : []
  ]
  for (const way of ways) {
    const a = await node(t, url, 'a')
    const listener = cli(t, ['listen', '--actor-id', 'b', '--ats-url', url, '--json'], { cwd: folder, ...way })
    await listener.line('connected')
    listener.kill('SIGHUP')
    await a.send({ filePath, recipientId: 'b' })
    await listener.line('transfer_complete')
    listener.kill('SIGTERM')
    assert.equal((await listener.ended).code, 143)
  }
})
