// What `npm run test:nat` tries. Each case has a name and what `Lab.up` takes as `lab`.
const { MTUS, PLACES, between } = require('./kinds')

const KINDS = ['open', 'cone', 'symmetric']
// The network's own peers, ours and npm hyperdht's.
const PAIRINGS = KINDS.flatMap((a) => KINDS.map((b) => ({ name: `${a}:${b}`, lab: between(a, b) })))
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

// The product, wherever its two ends are: by sender, and for each by recipient.
const PLACE_NAMES = Object.keys(PLACES)
const PLACES_PAIRED = PLACE_NAMES.map((sender) => PLACE_NAMES.map((recipient) => ({
  name: `product, ${sender}:${recipient}`,
  lab: between(sender, recipient)
})))

const PRODUCT = [
  { name: 'one network', lab: { shared: ['cone'] } },
  { name: 'two homes behind one carrier that hairpins', lab: { shared: ['hairpin'], a: ['cone'], b: ['cone'] } },
  { name: 'two homes behind one carrier that does not', lab: { shared: ['carrier'], a: ['cone'], b: ['cone'] } },
  { name: 'open:open with UDP blocked between them', lab: { blocked: true } },
  { name: 'cone:cone with UDP blocked between them', lab: { a: ['cone'], b: ['cone'], blocked: true } }
].map(asProduct)

// Links that carry small packets only, at the sender's end, the recipient's, and both; a cone at the other.
const SMALL = MTUS.flatMap((mtu) => ['', '-silent'].flatMap((silent) => [
  { what: 'its own link', routers: [`mtu-${mtu}${silent}`] },
  { what: 'its router\'s', routers: [`mtu-${mtu}${silent}`, 'cone'] }
].map(({ what, routers }) => ({
  name: `MTU ${mtu}${silent && ', silent'}, ${what}`,
  ends: {
    sender: { a: routers, b: ['cone'] },
    recipient: { a: ['cone'], b: routers },
    both: { a: routers, b: routers }
  }
}))))

// Two files, one after the other, by one node.
const TWICE = ['cone', 'symmetric', 'no UDP', '443 only', 'proxy, password', 'IPv6 alone'].map((place) => asProduct({
  name: `two files, ${place}:${place}`,
  lab: between(place, place),
  files: 2
}))

const LARGE = { name: 'product, 256 MiB', lab: { a: ['symmetric'], b: ['symmetric'] }, bytes: 256 << 20 }

function asProduct (one) {
  return { ...one, name: `product, ${one.name}` }
}

module.exports = { FURTHER, LARGE, PAIRINGS, PLACES_PAIRED, PLACE_NAMES, PRODUCT, SMALL, TWICE }
