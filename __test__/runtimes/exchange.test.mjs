import * as p2p from 'ats-p2p'
import { expect, test } from 'vitest'
import exchange from './exchange.cjs'

test('a file is delivered', async () => {
  const { success, size } = await exchange(p2p)
  expect({ success, size }).toEqual({ success: true, size: 3_000_000 })
}, 60_000)

test('errors are of the classes of the test', async () => {
  await expect(p2p.createNode({ actorId: 7 })).rejects.toThrow(TypeError)
})
