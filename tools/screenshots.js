#!/usr/bin/env node
// Makes the pictures of the hub's page in docs/: real transfers between agents of a hub of its own, in an installed
// Chromium. Needs the addon.
//
//   node tools/screenshots.js
'use strict'
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { createNode, startHub } = require('..')
const { findChromium, startBrowser } = require('../__test__/fixtures/browser')

const DOCS = path.join(__dirname, '..', 'docs')
const LIST = [
  { name: 'page-light', width: 1280, height: 800, colorScheme: 'light' },
  { name: 'page-dark', width: 1280, height: 800, colorScheme: 'dark', trail: 'model-2026-11.safetensors' },
  { name: 'page-phone', width: 390, height: 844, colorScheme: 'light', from: 'Transfers' }
]

/** What goes from whom to whom; `not` is how it ends where it does not arrive. */
const TRANSFERS = [
  { from: 'planner', to: 'builder', file: 'requirements.json', size: 18_400 },
  { from: 'builder', to: 'tester', file: 'release-candidate.tar.gz', size: 48_000_000 },
  { from: 'tester', to: 'builder', file: 'report.html', size: 312_000 },
  { from: 'trainer', to: 'planner', file: 'dataset-shard-03.parquet', size: 25_000_000 },
  { from: 'planner', to: 'trainer', file: 'secrets.env', size: 900, not: 'no such files here, please' },
  { from: 'trainer', to: 'builder', file: 'model-2026-11.safetensors', size: 150_000_000 }
]

async function main () {
  if (!findChromium()) throw new Error('no Chromium is installed')
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'ats-p2p-'))
  const undo = [() => fs.rmSync(folder, { recursive: true, force: true })]
  try {
    const hub = await startHub({ listen: '127.0.0.1:0', data: path.join(folder, 'hub') })
    undo.push(() => hub.close())
    await transfer(hub, folder, undo)
    const browser = await startBrowser()
    undo.push(() => browser.close())
    for (const one of LIST) await picture(browser, hub.url, one)
  } finally {
    while (undo.length) await undo.pop()()
  }
}

async function transfer (hub, folder, undo) {
  const nodes = {}
  for (const actorId of new Set(TRANSFERS.flatMap(({ from, to }) => [from, to]))) {
    const node = await createNode({ atsUrl: hub.url, actorId, home: path.join(folder, actorId) })
    undo.push(() => node.destroy())
    node.on('file', (offer) => {
      const { not } = TRANSFERS.find(({ file }) => file === offer.originalName)
      const answer = not ? offer.reject(not) : offer.accept(path.join(folder, `${actorId}-${offer.originalName}`))
      answer.catch(() => {})
    })
    node.watch()
    nodes[actorId] = node
  }
  for (const { from, to, file, size, not } of TRANSFERS) {
    const filePath = path.join(folder, file)
    fs.writeFileSync(filePath, Buffer.alloc(size, file))
    await nodes[from].send({ recipientId: to, filePath }).catch((error) => { if (!not) throw error })
  }
}

async function picture (browser, url, { name, width, height, colorScheme, trail, from }) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce', locale: 'en-GB', timezoneId: 'UTC' })
  const page = await context.newPage()
  await page.goto(url)
  await page.locator('#live.stream.live').waitFor()
  await page.locator('#days-chart svg').waitFor()
  await page.getByRole('button', { name: TRANSFERS[0].file }).waitFor()
  await page.locator('#connected li').first().waitFor()
  if (trail) {
    await page.getByRole('button', { name: trail }).click()
    await page.locator('#trail-events tbody tr').first().waitFor()
  }
  if (from) await page.getByRole('heading', { name: from }).evaluate(heading => heading.scrollIntoView())
  const file = path.join(DOCS, `${name}.png`)
  await page.screenshot({ path: file })
  await context.close()
  console.log(`${path.relative('', file)}: ${fs.statSync(file).size} bytes`)
}

main().catch((error) => {
  console.error(error.message)
  process.exitCode = 1
})
