'use strict'

// Other programs that carry a file from one process to another, on the same file, where they are installed.
// What is timed is the receiving program from its start to its end: its sender already waits.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { installed, sha256 } = require('../session')

const sendme = {
  id: 'sendme',
  programs: ['sendme', 'ip'],
  howTo: '`cargo install --locked sendme --version 0.37.1`, and root for a network namespace',
  async prepare (session) {
    // It takes part in no network outside, and needs an interface besides the loopback one to offer itself on.
    const namespace = `ats-bench-${process.pid}`
    const ip = (...args) => session.output('ip', args)
    await ip('netns', 'add', namespace)
    session.defer(() => require('node:child_process').spawnSync('ip', ['netns', 'delete', namespace]))
    await ip('-n', namespace, 'link', 'add', 'inside', 'type', 'veth', 'peer', 'name', 'outside')
    await ip('-n', namespace, 'address', 'add', '10.67.0.1/24', 'dev', 'inside')
    for (const device of ['lo', 'inside', 'outside']) await ip('-n', namespace, 'link', 'set', device, 'up')
    await ip('-n', namespace, 'route', 'add', 'default', 'via', '10.67.0.2')
    return { namespace }
  },
  async send (session, file, { namespace }) {
    const options = ['--relay', 'disabled', '--ticket-type', 'addresses', '--no-progress']
    const sender = session.run('sendme', ['send', ...options, file.path], { namespace, stdin: 'pipe', cwd: session.newFolder('sendme', path.dirname(file.path)) })
    const [, ticket] = /sendme receive (\S+)/.exec(await sender.line(/sendme receive /))
    return {
      sender,
      receive: folder => session.run('sendme', ['receive', '--relay', 'disabled', '--no-progress', ticket], { namespace, cwd: folder })
    }
  }
}

const wormhole = {
  id: 'wormhole',
  programs: ['wormhole', 'twist'],
  howTo: '`pip install magic-wormhole magic-wormhole-mailbox-server magic-wormhole-transit-relay`',
  async prepare (session) {
    const mailbox = session.run('twist', ['--log-level', 'warn', 'wormhole-mailbox', '--port', `tcp:${MAILBOX}:interface=127.0.0.1`])
    await reachable(MAILBOX)
    return { mailbox }
  },
  async send (session, file) {
    const code = `7-${session.name('bench')}`
    const common = ['--relay-url', `ws://127.0.0.1:${MAILBOX}/v1`, '--transit-helper', '']
    const sender = session.run('wormhole', [...common, 'send', '--hide-progress', '--code', code, file.path])
    await sender.line(/Wormhole code is|wormhole receive/)
    return {
      sender,
      receive: folder => session.run('wormhole', [...common, 'receive', '--accept-file', '--hide-progress', code], { cwd: folder })
    }
  }
}

const scp = {
  id: 'scp',
  programs: ['scp', 'sshd', 'ssh-keygen'],
  howTo: '`apt-get install openssh-server openssh-client`',
  async prepare (session, { host = '127.0.0.1', namespace } = {}) {
    const folder = session.newFolder('ssh')
    const key = path.join(folder, 'key')
    await session.output('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', key])
    fs.mkdirSync('/run/sshd', { recursive: true })
    const options = [`Port=${SSH}`, `ListenAddress=${host}`, `HostKey=${key}`, `AuthorizedKeysFile=${key}.pub`, 'StrictModes=no', 'PidFile=none', 'UsePAM=no', 'PermitRootLogin=yes', 'Subsystem=sftp internal-sftp']
    const args = ['-D', '-e', '-f', '/dev/null', ...options.flatMap(option => ['-o', option])]
    const server = session.run('/usr/sbin/sshd', args, { namespace })
    await server.line(/^Server listening/)
    return { key, host, server }
  },
  async send (session, file, { key, host }, { namespace } = {}) {
    return { receive: folder => session.run('scp', ['-P', String(SSH), ...sshOptions(key), `${host}:${file.path}`, folder], { namespace }) }
  }
}

/** What takes a folder from the same sshd: each by a command of the receiving shell, whose last argument is where to. */
const overSsh = {
  tar: {
    programs: ['ssh', 'sshd', 'ssh-keygen', 'tar', 'bash'],
    receive: ({ parent, name }, ssh, host) => `set -o pipefail; ${ssh} ${host} 'tar -C ${parent} -cf - ${name}' | tar -xf - -C "$0"`
  },
  rsync: {
    programs: ['ssh', 'sshd', 'ssh-keygen', 'rsync', 'bash'],
    receive: ({ parent, name }, ssh, host) => `rsync -a -e '${ssh}' ${host}:${parent}/${name} "$0"`
  }
}

function sshOptions (key) {
  return ['-q', '-i', key, ...['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=yes'].flatMap(option => ['-o', option])]
}

/** Runs a program of `overSsh` in the folder that it is to fill. */
function runOverSsh (session, program, tree, { key, host }) {
  const ssh = ['ssh', '-p', SSH, ...sshOptions(key)].join(' ')
  const parts = { parent: path.dirname(tree.path), name: path.basename(tree.path) }
  return folder => session.run('bash', ['-c', overSsh[program].receive(parts, ssh, host), folder])
}

const MAILBOX = 49_801
const SSH = 49_802

async function reachable (port) {
  const net = require('node:net')
  for (let left = 300; left > 0; left--) {
    const open = await new Promise((resolve) => {
      const socket = net.connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) }).on('error', () => resolve(false))
    })
    if (open) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new Error(`nothing listens on port ${port}`)
}

/** Seconds from the start of the receiving program to its end; the copy is checked, and removed. */
async function timed (session, id, file, receive, check = sameFile) {
  const folder = session.newFolder('copies', path.dirname(file.path))
  const started = performance.now()
  const { code, output } = await receive(folder).ended
  const seconds = (performance.now() - started) / 1000
  assert.equal(code, 0, `${id}: ${output}`)
  await check(path.join(folder, path.basename(file.path)), file, id)
  fs.rmSync(folder, { recursive: true })
  return seconds
}

async function sameFile (copy, { hash }, id) {
  assert.equal(await sha256(copy), hash, `${id}: the copy differs`)
}

const others = [sendme, wormhole, scp].map(({ id, programs, howTo, prepare, send }) => ({
  id,
  async measure (session, { runs, size }) {
    if (!programs.every(installed)) return { missing: howTo }
    const file = await session.file(size)
    const prepared = await prepare(session)
    const measured = []
    for (let run = 0; run < runs; run++) {
      const { sender, receive } = await send(session, file, prepared)
      const seconds = await timed(session, id, file, receive)
      await sender?.stop()
      measured.push({ bytes: size, seconds })
    }
    await prepared.server?.stop()
    await prepared.mailbox?.stop()
    return { size, runs: measured }
  }
}))

module.exports = { others, overSsh, runOverSsh, scp, sendme, timed }
