import { createNode, startHub, AtsP2pError } from 'ats-p2p'
import exchange from './exchange.cjs'

await exchange({ createNode, startHub, AtsP2pError })
console.log('delivered')
