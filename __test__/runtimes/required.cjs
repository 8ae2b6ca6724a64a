'use strict'
require('./exchange.cjs')(require('ats-p2p')).then(() => console.log('delivered'))
