// What is between a peer of the NAT lab and its internet, as data: the kinds of routers, and the places
// where agents live, which are made of them.

const MASQUERADE = 'add rule ip nat post oifname wan masquerade'
// A cone that drops what goes out and is one of these.
const without = (...these) => [
  MASQUERADE,
  'add chain ip nat without { type filter hook forward priority -1; }',
  ...these.map((one) => `add rule ip nat without iifname lan oifname wan ${one} drop`)
]

// Each router is a NAT. What its `rules` do, where `postrouting` gives the address and port outside:
//   cone       one port outside for each port inside; open to whom something was sent
//   symmetric  another port outside, at random, for each whom something is sent to
//   hairpin    a cone through which the hosts behind it reach each other's outer ports
//   carrier    a provider's for many homes: a cone that has some ports for each, and addresses of its own inside
//   web        a cone that lets no UDP through, as many offices and sandboxes do
//   https      a cone that lets TCP to port 443 through, and nothing else
//   proxy…     lets nothing through but what is asked of the proxy on it, on PROXY_PORT
// And besides:
//   inside     the network behind it begins so
//   mtu        bytes of a packet that the network behind it carries
//   isSilent   nobody says so to whom sends larger ones; TCP is told when it connects, else no web page would come
//   proxy      who is on it: what it asks for as `password`, and whether it `reads` what is encrypted
const ROUTERS = {
  cone: { rules: [MASQUERADE] },
  symmetric: { rules: [`${MASQUERADE} fully-random`] },
  hairpin: {
    rules: [
      'add map ip nat inside { type inet_service : ipv4_addr; flags dynamic; timeout 5m; }',
      'add chain ip nat learn { type filter hook postrouting priority 90; }',
      'add rule ip nat learn iifname lan oifname wan meta l4proto udp update @inside { udp sport : ip saddr }',
      'add rule ip nat pre iifname lan ip daddr $WAN dnat to udp dport map @inside',
      MASQUERADE,
      'add rule ip nat post ct status dnat oifname lan snat to $WAN'
    ]
  },
  carrier: {
    inside: '100.64',
    rules: [
      'add rule ip nat post oifname wan meta l4proto { tcp, udp } masquerade to :20000-24095',
      MASQUERADE
    ]
  },
  web: { rules: without('meta l4proto udp') },
  https: { rules: without('meta l4proto != tcp', 'tcp dport != 443') },
  proxy: { rules: without(''), proxy: {} },
  'proxy-password': { rules: without(''), proxy: { password: 'agent:a secret' } },
  'proxy-reads': { rules: without(''), proxy: { reads: true } }
}

const MTUS = [1199, 1000, 800, 576]
for (const mtu of MTUS) {
  for (const isSilent of [false, true]) {
    ROUTERS[isSilent ? `mtu-${mtu}-silent` : `mtu-${mtu}`] = { rules: [MASQUERADE], mtu, isSilent }
  }
}

// Where agents live: the routers before them, the outermost first, or what else is special there.
const PLACES = {
  open: { routers: [] },
  cone: { routers: ['cone'] },
  symmetric: { routers: ['symmetric'] },
  carrier: { routers: ['carrier', 'cone'] },
  'no UDP': { routers: ['web'] },
  '443 only': { routers: ['https'] },
  proxy: { routers: ['proxy'] },
  'proxy, password': { routers: ['proxy-password'] },
  'proxy, own CA': { routers: ['proxy-reads'] },
  'IPv6 alone': { routers: [], isIpv6: true },
  'MTU 1000': { routers: ['mtu-1000', 'cone'] },
  'MTU 576, silent': { routers: ['mtu-576-silent', 'cone'] }
}

// Where a router's proxy listens, on its address inside.
const PROXY_PORT = 3128

// Where both live, as `Lab.up` takes it.
function between (a, b) {
  const isIpv6 = { a: PLACES[a].isIpv6, b: PLACES[b].isIpv6 }
  return { a: PLACES[a].routers, b: PLACES[b].routers, ipv6: ['a', 'b'].filter((side) => isIpv6[side]) }
}

module.exports = { MTUS, PLACES, PROXY_PORT, ROUTERS, between }
