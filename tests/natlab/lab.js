// A NAT lab: an "internet" of network namespaces on this machine, from which nothing leaves it.
// DHT nodes and a service live at 45.0.0.1 to 45.0.0.6, peer A and peer B each behind NATs of their own,
// or both behind one; kinds.js has their kinds. Needs root, iproute2 and nftables. Two labs may run side
// by side.
const { execFile, execFileSync, spawn } = require('node:child_process')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { createInterface } = require('node:readline')
const { promisify } = require('node:util')
const { ROUTERS } = require('./kinds')

const run = promisify(execFile)

// Where the DHT nodes are.
const NODES = ['45.0.0.1', '45.0.0.2', '45.0.0.3', '45.0.0.4', '45.0.0.5', '45.0.0.6']

// The network of those who have IPv6.
const IPV6 = '2001:db8:45::'
// What the service is called, whose addresses are the first.
const SERVICE = 'hub.test'
// Where a server for names would be.
const NOBODY = '45.0.0.53'

// Of each router: nothing comes in that nobody asked for; what is for the router itself is dropped without a
// word, as home routers do.
const FIREWALL = [
  'add table ip fw',
  'add chain ip fw forwarded { type filter hook forward priority 0; policy drop; }',
  'add rule ip fw forwarded iifname lan accept',
  'add rule ip fw forwarded ct state established,related accept',
  'add chain ip fw incoming { type filter hook input priority 0; policy accept; }',
  'add rule ip fw incoming ip daddr $WAN ct state new drop'
]
// Of one at a network that carries small packets only: see `isSilent`.
const SILENCE = [
  'add table ip silence',
  'add chain ip silence said { type filter hook output priority 0; }',
  'add rule ip silence said icmp type destination-unreachable icmp code frag-needed drop',
  'add chain ip silence forwarded { type filter hook forward priority -150; }',
  'add rule ip silence forwarded tcp flags syn tcp option maxseg size set rt mtu'
]

// Why no lab can be here, or nothing.
function unavailable () {
  if (process.platform !== 'linux') return 'network namespaces are Linux\'s'
  if (process.getuid() !== 0) return 'network namespaces need root'
  const name = `ats-nat-${process.pid}-try`
  const tries = [
    ['ip', 'netns', 'add', name],
    ['ip', '-n', name, 'link', 'add', 'br0', 'type', 'bridge'],
    ['ip', '-n', name, 'link', 'add', 'veth0', 'type', 'veth', 'peer', 'name', 'veth1'],
    ['ip', 'netns', 'exec', name, 'sysctl', '-qw', 'net.ipv4.ip_forward=1'],
    ['ip', 'netns', 'exec', name, 'nft', [
      'add table ip nat',
      'add chain ip nat post { type nat hook postrouting priority 100; }',
      'add rule ip nat post masquerade fully-random'
    ].join('\n')]
  ]
  try {
    for (const [command, ...args] of tries) execFileSync(command, args, { stdio: 'pipe' })
    return null
  } catch (error) {
    return `no network namespaces with NAT here: ${String(error.stderr || error.message).trim()}`
  } finally {
    try { execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' }) } catch {}
  }
}

// A signal ends the process as usual, and its labs with it.
function heedSignals () {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1))
}

let labs = 0

// Runs a command with the lab's names in the place of this machine's.
const OWN_NAMES = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'

class Lab {
  // What is between the internet and each peer: the kinds of its routers, the outermost first;
  // none for an open peer. With `shared`, these routers come first for both.
  //   blocked: no UDP passes between the two peers' public addresses
  //   udpTimeout: seconds until a router forgets what is idle
  //   ipv6: the peers, open ones, that have IPv6 and no IPv4; with both of them nothing here has IPv4
  static async up ({ a = [], b = [], shared = [], blocked = false, udpTimeout = null, ipv6 = [] }) {
    if (labs === 0) heedSignals()
    const lab = new Lab(`ats-nat-${process.pid}-${labs++}`)
    try {
      await lab.#build({ a, b, shared, blocked, udpTimeout, ipv6 })
    } catch (error) {
      await lab.down()
      throw error
    }
    return lab
  }

  constructor (prefix) {
    this.prefix = prefix
    // For files of the lab and of what runs in it; it goes with the lab.
    this.folder = fs.mkdtempSync(path.join(os.tmpdir(), `${prefix}-`))
    this.namespaces = []
    this.blocking = []
    this.children = new Set()
    this.onexit = () => this.#downNow()
    process.on('exit', this.onexit)
  }

  // Starts a program in a namespace: `inet`, `pa`, `pb` or a router as `proxies` names it. It says what
  // happens as JSON, a line each, and is killed with the lab.
  start (namespace, command, args = [], options = {}) {
    const files = [`hosts-${namespace}`, 'resolv.conf'].map((file) => path.join(this.folder, file))
    const asked = ['sh', '-c', OWN_NAMES, ...files, command, ...args]
    const child = spawn('ip', ['netns', 'exec', this.#name(namespace), ...asked], {
      stdio: ['pipe', 'pipe', 'inherit'],
      ...options
    })
    this.children.add(child)
    child.on('exit', () => this.children.delete(child))
    return new Program(child)
  }

  // Sets the link of a peer down or up.
  async link (peer, state) {
    await run('ip', ['-n', this.#name(peer), 'link', 'set', 'e0', state])
    if (state === 'up' && this.routes[peer]) {
      await run('ip', ['-n', this.#name(peer), 'route', 'replace', 'default', 'via', this.routes[peer]])
    }
  }

  // Lets UDP pass between the peers of a lab that was built with `blocked`.
  async unblock () {
    for (const space of this.blocking.splice(0)) {
      await run('ip', ['netns', 'exec', space, 'nft', 'delete table ip block'])
    }
  }

  async down () {
    process.off('exit', this.onexit)
    const exits = [...this.children].map((child) => new Promise((resolve) => child.on('exit', resolve)))
    for (const child of this.children) child.kill('SIGKILL')
    await Promise.all(exits)
    for (const name of this.namespaces.splice(0)) {
      await run('ip', ['netns', 'del', name]).catch(() => {})
    }
    fs.rmSync(this.folder, { recursive: true, force: true })
  }

  #downNow () {
    for (const child of this.children) child.kill('SIGKILL')
    for (const name of this.namespaces.splice(0)) {
      try { execFileSync('ip', ['netns', 'del', name], { stdio: 'pipe' }) } catch {}
    }
    fs.rmSync(this.folder, { recursive: true, force: true })
  }

  #name (namespace) {
    return `${this.prefix}-${namespace}`
  }

  async #build ({ a, b, shared, blocked, udpTimeout, ipv6 }) {
    this.routes = {}
    this.proxies = {}
    const hasIpv4 = ipv6.length < 2
    await this.#internet(hasIpv4, ipv6.length > 0)

    let outside = { namespace: 'inet', bridge: 'br0', subnet: '45.0.0', gateway: null }
    let next = 11
    const attach = (host) => ({ ...outside, host })
    if (shared.length > 0) {
      outside = await this.#routers('s', shared, attach(next++), 100, udpTimeout)
      next = 11
    }
    const addresses = {}
    for (const [index, [side, kinds]] of Object.entries({ a, b }).entries()) {
      const at = { ...attach(next++), isIpv6: ipv6.includes(side) }
      addresses[side] = `${at.subnet}.${at.host}`
      const inside = await this.#routers(side, kinds, at, 10 * (index + 1), udpTimeout)
      await this.#peer(`p${side}`, kinds.length > 0 ? { ...inside, host: 2 } : at)
    }
    if (blocked) {
      for (const [side, other] of [['a', 'b'], ['b', 'a']]) {
        const kinds = side === 'a' ? a : b
        const where = this.#name(kinds.length > 0 ? `${side}0` : `p${side}`)
        this.blocking.push(where)
        await this.#nft(where, [
          'add table ip block',
          'add chain ip block in { type filter hook prerouting priority -300; }',
          `add rule ip block in ip saddr ${addresses[other]} udp dport 1-65535 drop`
        ])
      }
    }
  }

  // The internet, and what programs know of it: the service by its name, for whom no proxy asks for it, and
  // no server for others.
  async #internet (hasIpv4, hasIpv6) {
    this.service = !hasIpv6 ? NODES[0] : hasIpv4 ? '[::]' : `[${IPV6}1]`
    const addresses = [hasIpv4 && NODES[0], hasIpv6 && `${IPV6}1`].filter(Boolean)
    this.names = addresses.map((address) => `${address} ${SERVICE}\n`).join('')
    this.#write('resolv.conf', `nameserver ${NOBODY}\noptions timeout:2 attempts:2\n`)
    await this.#namespace('inet')
    const inet = this.#name('inet')
    await this.#ip(`link add br0 netns ${inet} type bridge`)
    if (hasIpv4) for (const node of NODES) await this.#ip(`-n ${inet} addr add ${node}/24 dev br0`)
    if (hasIpv6) await this.#ip(`-n ${inet} addr add ${IPV6}1/64 dev br0 nodad`)
    await this.#ip(`-n ${inet} link set br0 up`)
    if (hasIpv4) await this.#ip(`-n ${inet} route add default dev br0`)
  }

  // A chain of routers from `at` inwards. Returns where the innermost one's network is.
  async #routers (side, kinds, at, subnet, udpTimeout) {
    let outside = at
    for (const [depth, kind] of kinds.entries()) {
      const name = `${side}${depth}`
      const { rules, inside: prefix = '192.168', mtu, isSilent, proxy } = ROUTERS[kind]
      await this.#namespace(name)
      const space = this.#name(name)
      const wan = `${outside.subnet}.${outside.host}`
      await this.#wire(name, 'wan', outside)
      const inside = `${prefix}.${subnet + depth}`
      await this.#ip(`link add lan netns ${space} type bridge`)
      await this.#ip(`-n ${space} addr add ${inside}.1/24 dev lan`)
      await this.#ip(`-n ${space} link set lan up`)
      await this.#nft(space, [
        'add table ip nat',
        'add chain ip nat pre { type nat hook prerouting priority -100; }',
        'add chain ip nat post { type nat hook postrouting priority 100; }',
        ...rules,
        ...FIREWALL,
        ...(isSilent || outside.isSilent ? SILENCE : [])
      ].map((rule) => rule.replace('$WAN', wan)))
      const settings = ['net.ipv4.ip_forward=1']
      if (udpTimeout) {
        settings.push(`net.netfilter.nf_conntrack_udp_timeout=${udpTimeout}`)
        settings.push(`net.netfilter.nf_conntrack_udp_timeout_stream=${udpTimeout}`)
      }
      await run('ip', ['netns', 'exec', space, 'sysctl', '-qw', ...settings])
      outside = { namespace: name, bridge: 'lan', subnet: inside, gateway: `${inside}.1`, host: 2, mtu, isSilent }
      if (proxy) this.proxies[side] = { ...proxy, router: name, host: outside.gateway }
    }
    return outside
  }

  async #peer (name, at) {
    await this.#namespace(name)
    await this.#wire(name, 'e0', at)
    this.routes[name] = at.gateway
  }

  // Joins a namespace to a network by an interface.
  async #wire (name, interfaceName, { namespace, bridge, subnet, host, gateway, mtu, isIpv6 }) {
    const [inner, outer] = [this.#name(name), this.#name(namespace)]
    const port = `to-${name}`
    await this.#ip(`link add ${port} netns ${outer} type veth peer name ${interfaceName} netns ${inner}`)
    for (const end of mtu ? [`${outer} link set ${port}`, `${inner} link set ${interfaceName}`] : []) {
      await this.#ip(`-n ${end} mtu ${mtu}`)
    }
    await this.#ip(`-n ${outer} link set ${port} master ${bridge} up`)
    const address = isIpv6 ? `${IPV6}${host}/64` : `${subnet}.${host}/24`
    await this.#ip(`-n ${inner} addr add ${address} dev ${interfaceName}${isIpv6 ? ' nodad' : ''}`)
    await this.#ip(`-n ${inner} link set ${interfaceName} up`)
    if (gateway) await this.#ip(`-n ${inner} route add default via ${gateway}`)
  }

  async #namespace (name) {
    const full = this.#name(name)
    await this.#ip(`netns add ${full}`)
    this.namespaces.push(full)
    const isBehindProxy = this.proxies[name.slice(1)] !== undefined
    this.#write(`hosts-${name}`, `127.0.0.1 localhost\n${isBehindProxy ? '' : this.names}`)
    await this.#ip(`-n ${full} link set lo up`)
  }

  #write (file, text) {
    fs.writeFileSync(path.join(this.folder, file), text)
  }

  async #ip (command) {
    await run('ip', command.split(' '))
  }

  async #nft (space, rules) {
    await run('ip', ['netns', 'exec', space, 'nft', rules.join('\n')])
  }
}

// A program of the lab and what it says.
class Program {
  constructor (child) {
    this.child = child
    this.lines = []
    // All of them, whether `next` has given them or not; `at` which millisecond of this process.
    this.heard = []
    this.waiting = null
    createInterface({ input: child.stdout }).on('line', (line) => this.#push(parse(line)))
    child.on('exit', (code) => this.#push({ event: 'exit', code }))
    child.stdin.on('error', () => {})
  }

  // The next event of one of these names, or its exit; null if it takes too long.
  async next (names, patience) {
    const end = Date.now() + patience
    for (;;) {
      while (this.lines.length > 0) {
        const line = this.lines.shift()
        if (names.includes(line.event) || line.event === 'exit') return line
      }
      const left = end - Date.now()
      if (left <= 0) return null
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, left)
        this.waiting = () => { clearTimeout(timer); resolve() }
      })
      this.waiting = null
    }
  }

  async stop () {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const exit = new Promise((resolve) => this.child.on('exit', resolve))
    this.child.kill('SIGKILL')
    await exit
  }

  #push (event) {
    const heard = { ...event, at: performance.now() }
    this.heard.push(heard)
    this.lines.push(heard)
    this.waiting?.()
  }
}

function parse (line) {
  try { return JSON.parse(line) } catch { return { event: 'text', line } }
}

module.exports = { Lab, NODES, SERVICE, unavailable }
