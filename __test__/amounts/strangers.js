'use strict'

// Many connections of strangers, with npm's peer: to a key, or to all who announce themselves on a topic. They stay for
// as long as they are let, and say nothing.

const HyperDHT = require('hyperdht')
const { bootstrapNodes } = require('../fixtures/harness')

const AT_ONCE = 250

async function main () {
  const { bootstrap, key, topic, count } = JSON.parse(process.env.AMOUNTS_STRANGERS)
  process.on('disconnect', () => process.exit())
  const dht = new HyperDHT({ bootstrap: bootstrapNodes(bootstrap), host: '127.0.0.1' })
  await dht.fullyBootstrapped()
  const keys = key ? [key] : await found(dht, topic)
  const ends = { opened: 0, refused: 0 }
  let begun = 0
  const dial = async () => {
    while (begun < count) {
      const stream = dht.connect(Buffer.from(keys[begun++ % keys.length], 'hex'), { keyPair: HyperDHT.keyPair() })
      const end = await new Promise((resolve) => {
        stream.once('open', () => resolve('opened'))
        stream.once('error', () => resolve('refused'))
        setTimeout(resolve, 5000, 'refused')
      })
      stream.on('error', () => {})
      ends[end]++
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, dial))
  process.send({ event: 'dialled', ...ends })
}

async function found (dht, topic) {
  for (;;) {
    const keys = new Set()
    for await (const { peers } of dht.lookup(Buffer.from(topic, 'hex'))) {
      for (const { publicKey } of peers) keys.add(publicKey.toString('hex'))
    }
    if (keys.size > 0) return [...keys]
  }
}

main()
