'use strict'

// The hub's page in a real Chromium: what an operator sees of real transfers, who gets in, and whether it can be used
// by keyboard, by screen reader, in the dark and on a phone.

const assert = require('node:assert/strict')
const fs = require('node:fs')
const path = require('node:path')
const { after, before, describe, test } = require('node:test')
const { hubKeys, startHub } = require('..')
const { findChromium, openPage, startBrowser } = require('./fixtures/browser')
const { findOpenssl, makeCertificate } = require('./fixtures/certificate')
const { defer, hub, makeFile, node, tempFolder } = require('./fixtures/harness')
const { findPostgres, startPostgres } = require('./fixtures/postgres')

const HASH = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
const LIMIT = { timeout: 60_000 }
const WITHOUT = findChromium() ? false : 'no Chromium is installed'

const WITHOUT_TLS = findOpenssl() ? false : 'no OpenSSL is installed'
const STORES = [
  { where: '', skip: false, database: () => undefined },
  { where: ' on PostgreSQL', skip: findPostgres() ? false : 'PostgreSQL is not installed', database: startPostgres }
]

let browser

/** A hub that takes every caller for one of another machine, so that it asks for keys. */
async function guardedHub (t, database) {
  const data = path.join(tempFolder(t), 'hub')
  const { url } = await hub(t, { data, database, trustedProxies: ['127.0.0.1'], insecure: true })
  const key = async (actor, options = {}) => hubKeys.create(actor, { data, database, ...options })
  return { url, data, key }
}

/** Calls the API of a hub as an actor. */
async function call (url, actor, path, body, key) {
  const headers = { 'content-type': 'application/json', 'x-actor-id': actor, ...(key && { authorization: `Bearer ${key}` }) }
  const answer = await fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body ?? {}) })
  const said = await answer.json()
  assert.ok(answer.ok, JSON.stringify(said))
  return said.task
}

/** Offers a file of which there is no more than its name. */
async function offer (url, from, filename, { to = 'b', channel = 'p2p-transfer', size = 1000, key } = {}) {
  const payload = { transfer_id: `t-${filename}`, filename, size, hash: HASH, sender_id: from, recipient_id: to }
  return (await call(url, from, '/tasks', { title: 'A file', type: 'file_offer', channel, payload }, key)).id
}

const row = (page, name) => page.getByRole('row').filter({ has: page.getByRole('button', { name, exact: true }) })
const cell = (page, name, column) => row(page, name).locator(`[data-name="${column}"]`)
const names = page => page.locator('#transfers button.file').allTextContents()
const focused = page => page.evaluate(() => document.activeElement.textContent.trim())

async function isLive (page) {
  await page.locator('#live.stream.live').waitFor()
}

/** Reads something again until it is as expected. */
async function until (page, read, expected) {
  let found
  for (const end = Date.now() + 20_000; Date.now() < end;) {
    found = await read()
    try {
      assert.deepEqual(found, expected)
      return
    } catch {
      // Something on the page changes before it can be otherwise.
      await page.evaluate(() => new Promise(resolve => requestAnimationFrame(resolve)))
    }
  }
  assert.deepEqual(found, expected)
}

/** Watches a real transfer from its offer to its end, on a page of a hub that has seen none. */
async function showsTransfer (t, page, { url, ca, keys = {} }) {
  const folder = tempFolder(t)
  await isLive(page)
  await page.getByText('No transfer yet.').waitFor()
  const agent = actor => node(t, url, actor, { ca, apiKey: keys[actor] })
  const receiver = await agent('agent-b')
  const sender = await agent('agent-a')
  receiver.on('file', file => file.accept(path.join(folder, 'got')).catch(() => {}))
  await receiver.watch()
  const file = makeFile(folder, 'report.bin', 2_000_000)
  await sender.send({ recipientId: 'agent-b', filePath: file.filePath })

  await row(page, 'report.bin').getByText('arrived').waitFor()
  assert.equal(await cell(page, 'report.bin', 'From').textContent(), 'agent-a')
  assert.equal(await cell(page, 'report.bin', 'To').textContent(), 'agent-b')
  assert.equal(await cell(page, 'report.bin', 'Size').textContent(), '2.0 MB')
  assert.equal(await cell(page, 'report.bin', 'SHA-256').textContent(), `${file.hash.slice(0, 12)}… verified`)
  assert.equal(await cell(page, 'report.bin', 'Path').textContent(), 'lan')
  assert.match(await cell(page, 'report.bin', 'Duration').textContent(), /^[\d.]+ m?s$/)
  assert.match(await cell(page, 'report.bin', 'Rate').textContent(), /^[\d.]+ [kMG]B\/s$/)

  await page.getByRole('button', { name: 'report.bin' }).click()
  const dialog = page.getByRole('dialog', { name: 'report.bin' })
  await dialog.getByText(file.hash, { exact: true }).waitFor()
  await dialog.getByText('the offer and the completion, each by its own side').waitFor()
  const happened = await dialog.locator('#trail-events tbody td:nth-of-type(1)').allTextContents()
  // What is said of it for people may come at any time.
  assert.deepEqual([happened[0], happened.filter(event => event !== 'message').at(-1)], ['offered', 'arrived'])
  assert.ok(happened.includes('taken'), happened)
  await page.keyboard.press('Escape')

  // The totals, by chart, in a sentence and as a table; and who listens.
  await until(page, () => page.locator('#days-summary').textContent(), '1 transfer arrived (2.0 MB), 0 transfers failed, of 1 offer.')
  const chart = page.getByRole('img', { name: /^Bar chart by day\. 1 transfer arrived/ })
  assert.equal(await chart.locator('rect').count(), 1)
  await page.getByText('As a table').click()
  assert.deepEqual(await page.locator('#days-table tbody tr').first().locator('td').allTextContents(), ['1', '1', '0', '0', '2.0 MB'])
  assert.equal(await page.locator('#days-table tbody tr').count(), 30)
  await page.locator('#connected').getByText('agent-b on p2p-transfer').waitFor()
}

/** Signs in to the page as one after the other. */
async function showsEachTheirs (t, { url, key }) {
  const a = await key('a')
  const b = await key('b')
  const root = await key('root', { admin: true })
  await offer(url, 'a', 'for-b', { to: 'b', key: a.key })
  await offer(url, 'a', 'for-c', { to: 'c', key: a.key })
  const page = await openPage(t, browser, url)
  const field = page.getByLabel('Key')
  await field.waitFor()
  assert.equal(await page.locator('#board').isVisible(), false)
  await field.fill(`atsp2p_key_${'0'.repeat(64)}`)
  await field.press('Enter')
  await page.getByRole('alert').getByText('this key is unknown here, was revoked or has expired').waitFor()

  await field.fill(b.key)
  await field.press('Enter')
  await page.getByText('Signed in as b').waitFor()
  await isLive(page)
  await until(page, () => names(page), ['for-b'])
  const [cookie] = await page.context().cookies()
  assert.deepEqual([cookie.httpOnly, cookie.sameSite, cookie.path, cookie.expires], [true, 'Strict', '/', -1])
  assert.ok(!cookie.value.includes(b.key.slice(-64)))
  const kept = await page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length, document.getElementById('key').value])
  assert.deepEqual(kept, ['', 0, 0, ''])
  // What is offered to others while it looks does not appear, either.
  await offer(url, 'a', 'for-c-too', { to: 'c', key: a.key })
  await offer(url, 'a', 'for-b-too', { to: 'b', key: a.key })
  await until(page, () => names(page), ['for-b-too', 'for-b'])

  await page.getByRole('button', { name: 'Sign out' }).click()
  await field.waitFor()
  assert.deepEqual(await names(page), [])
  assert.deepEqual(await page.context().cookies(), [])
  await field.fill(root.key)
  await field.press('Enter')
  await until(page, () => names(page), ['for-b-too', 'for-c-too', 'for-c', 'for-b'])
  await page.reload()
  await page.getByText('Signed in as root, who sees the transfers of all').waitFor()
}

describe('the page of a hub', { skip: WITHOUT }, () => {
  before(async () => { browser = await startBrowser() })
  after(() => browser?.close())

  for (const { where, skip, database } of STORES) {
    test(`a real transfer appears when it is offered${where}, and is shown to its end without a reload`, { ...LIMIT, skip }, async (t) => {
      const { url } = await hub(t, { database: await database(t) })
      await showsTransfer(t, await openPage(t, browser, url), { url })
    })
  }

  test('over TLS it is the same, with a cookie that no other host and no plain HTTP gets', { ...LIMIT, skip: WITHOUT_TLS }, async (t) => {
    const { cert, keyFile, pin } = makeCertificate(tempFolder(t))
    const trusting = await startBrowser([pin])
    defer(t, () => trusting.close())
    const data = path.join(tempFolder(t), 'hub')
    const { url } = await hub(t, { data, cert, keyFile, trustedProxies: ['127.0.0.1'] })
    assert.match(url, /^https:/)
    const keys = {}
    for (const actor of ['agent-a', 'agent-b']) keys[actor] = (await hubKeys.create(actor, { data })).key
    const { key } = await hubKeys.create('root', { data, admin: true })
    const page = await openPage(t, trusting, url)
    const sockets = []
    page.on('websocket', socket => sockets.push(socket.url()))
    await page.getByLabel('Key').fill(key)
    await page.getByLabel('Key').press('Enter')
    await page.getByText('Signed in as root').waitFor()
    const [cookie, ...more] = await page.context().cookies()
    assert.deepEqual(more, [])
    assert.match(cookie.name, /^__Host-/)
    assert.deepEqual([cookie.secure, cookie.httpOnly, cookie.sameSite, cookie.path], [true, true, 'Strict', '/'])
    await showsTransfer(t, page, { url, ca: cert, keys })
    assert.ok(sockets.length > 0 && sockets.every(socket => socket.startsWith('wss:')), sockets.join())
    // Whoever does not know the certificate sees nothing of it.
    const stranger = await browser.newContext()
    defer(t, () => stranger.close())
    await assert.rejects((await stranger.newPage()).goto(url), /ERR_CERT/)
  })

  for (const { where, skip, database } of STORES) {
    test(`whoever has no key gets in nowhere, an actor sees its own transfers, an admin those of all${where}`, { ...LIMIT, skip }, async (t) => {
      await showsEachTheirs(t, await guardedHub(t, await database(t)))
    })
  }

  test('a page whose key is revoked shows nothing more and asks for another one', LIMIT, async (t) => {
    const { url, data, key } = await guardedHub(t)
    const { key: secret, id } = await key('a')
    await offer(url, 'a', 'x', { key: secret })
    const page = await openPage(t, browser, url)
    await page.getByLabel('Key').fill(secret)
    await page.getByRole('button', { name: 'Sign in' }).click()
    await row(page, 'x').waitFor()
    await isLive(page)
    await hubKeys.revoke(id, { data })
    await page.getByLabel('Key').waitFor()
    assert.deepEqual(await names(page), [])
  })

  test('names from the network are text, never markup, and turn nothing around', LIMIT, async (t) => {
    const { url } = await hub(t)
    const page = await openPage(t, browser, url)
    await isLive(page)
    const evil = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    const id = await offer(url, 'a"><b>', evil, { to: 'x\u202ey', channel: '<i>c</i>' })
    await offer(url, 'a', 'gpj.\u202eexe\u0007')
    await call(url, 'x\u202ey'.replace('\u202e', ''), `/tasks/${id}/messages`, { parts: [{ type: 'text', content: '<u>hi</u>\u202e' }] })
    await row(page, evil).waitFor()
    assert.equal(await cell(page, evil, 'From').textContent(), 'a"><b>')
    assert.equal(await cell(page, evil, 'To').textContent(), 'x\\u{202e}y')
    await row(page, 'gpj.\\u{202e}exe\\u{7}').waitFor()
    await page.getByRole('button', { name: evil }).click()
    await page.locator('#trail-events').getByText('<u>hi</u>\\u{202e}').waitFor()
    await page.locator('#trail-facts').getByText('<i>c</i>').waitFor()
    assert.equal(await page.locator('img, i, u, #board b, dialog b, table script').count(), 0)
    assert.equal(await page.title(), 'Transfers · ats-p2p hub')
    assert.equal(await page.locator('#transfers bdi', { hasText: 'gpj' }).count(), 1)
  })

  test('all of it is done by keyboard, and the focus stays where it is while rows come', LIMIT, async (t) => {
    const { url } = await hub(t)
    for (const name of ['one', 'two', 'three']) await offer(url, 'a', name)
    const page = await openPage(t, browser, url)
    await isLive(page)
    await row(page, 'three').waitFor()
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Skip to the transfers')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'three')
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none')
    await offer(url, 'a', 'four')
    await row(page, 'four').waitFor()
    assert.equal(await focused(page), 'three')
    await page.keyboard.press('Enter')
    await page.getByRole('dialog', { name: 'three' }).waitFor()
    await page.keyboard.press('Escape')
    assert.equal(await focused(page), 'three')
    // One that leaves the list hands the focus on.
    await page.keyboard.press('Shift+Tab')
    for (const name of ['State', 'Actor', 'Channel', 'File, hash or id']) assert.ok(await page.getByLabel(name, { exact: true }).isVisible())
    await page.getByLabel('State').focus()
    await page.keyboard.press('ArrowDown')
    await until(page, () => page.evaluate(() => window.location.search), '?state=open')
    await until(page, () => names(page), ['four', 'three', 'two', 'one'])
    await page.getByRole('button', { name: 'three' }).focus()
    await call(url, 'a', '/tasks/3/cancel')
    await until(page, () => names(page), ['four', 'two', 'one'])
    assert.equal(await focused(page), 'two')
  })

  test('filters narrow the list, stand in the address, and older transfers come when they are asked for', LIMIT, async (t) => {
    const { url } = await hub(t)
    for (let n = 0; n < 60; n++) await offer(url, n % 2 ? 'a' : 'c', `file-${n}`, { channel: n % 10 ? 'p2p-transfer' : 'other' })
    await call(url, 'b', '/tasks/7/reject', { reason: 'too large' })
    const page = await openPage(t, browser, url)
    await until(page, async () => (await names(page)).length, 50)
    await page.getByRole('button', { name: 'Show older' }).click()
    await until(page, async () => (await names(page)).length, 60)
    assert.equal(await page.getByRole('button', { name: 'Show older' }).isVisible(), false)
    await page.getByText('10 more transfers, 60 shown.').waitFor()
    // What is behind the first page stays when something new comes.
    await isLive(page)
    await offer(url, 'a', 'newest')
    await until(page, async () => (await names(page)).length, 61)

    await page.getByLabel('State').selectOption('declined')
    await until(page, () => names(page), ['file-6'])
    await row(page, 'file-6').getByText('too large').waitFor()
    await page.getByRole('button', { name: 'All' }).click()
    await page.getByLabel('File, hash or id').fill('FILE-1')
    await page.getByLabel('Channel').fill('other')
    await page.getByLabel('Channel').press('Enter')
    await until(page, () => names(page), ['file-10'])
    await until(page, () => page.evaluate(() => window.location.search), '?channel=other&text=FILE-1')
    await page.reload()
    await until(page, () => names(page), ['file-10'])
    await page.getByRole('button', { name: 'All' }).click()
    await cell(page, 'newest', 'From').getByRole('button').click()
    await until(page, () => page.evaluate(() => window.location.search), '?actor=a')
    const ofA = Array.from({ length: 60 }, (_, n) => `file-${59 - n}`).filter((_, n) => n % 2 === 0)
    await until(page, () => names(page), ['newest', ...ofA])
  })

  test('without events it goes on by asking, and takes them up again', LIMIT, async (t) => {
    const data = path.join(tempFolder(t), 'hub')
    const first = await startHub({ listen: '127.0.0.1:0', data })
    const page = await openPage(t, browser, first.url).finally(() => defer(t, () => first.close()))
    await isLive(page)
    await first.close()
    await page.getByText('No event stream: looking every 5 s').waitFor()
    const second = await startHub({ listen: new URL(first.url).host, data })
    defer(t, () => second.close())
    await offer(second.url, 'a', 'while-away')
    await row(page, 'while-away').waitFor()
    await isLive(page)
    assert.equal(await page.locator('#trouble').isVisible(), false)
  })

  test('what is new is told in one sentence now and then, not with each event', LIMIT, async (t) => {
    const { url } = await hub(t)
    const context = await browser.newContext()
    defer(t, () => context.close())
    const page = await context.newPage()
    await page.clock.install()
    await page.goto(url)
    await isLive(page)
    await page.getByText('0 transfers shown.').waitFor()
    await page.evaluate(() => {
      window.told = []
      new MutationObserver(() => window.told.push(document.getElementById('news').textContent))
        .observe(document.getElementById('news'), { childList: true, characterData: true, subtree: true })
    })
    for (let n = 0; n < 20; n++) await offer(url, 'a', `n-${n}`)
    await call(url, 'a', '/tasks/1/fail', { reason: 'x' })
    // Ten seconds of this page pass whenever it is told so; some events may come after that.
    const sum = (told, word) => told.reduce((all, text) => all + Number(new RegExp(`(\\d+) ${word}`).exec(text)?.[1] ?? 0), 0)
    await until(page, async () => {
      await page.clock.runFor(10_000)
      const told = await page.evaluate(() => window.told)
      return [sum(told, 'offered'), sum(told, 'failed')]
    }, [20, 1])
    const told = await page.evaluate(() => window.told)
    assert.ok(told.length <= 3, told.join('\n'))
    assert.match(told[0], /^By [\d:]+: \d+ offered/)
    await row(page, 'n-0').getByText('failed').waitFor()
  })

  for (const colorScheme of ['light', 'dark']) {
    test(`axe finds nothing to object to, and nothing is cut off, from a phone to a wide screen: ${colorScheme}`, LIMIT, async (t) => {
      const { url, key } = await guardedHub(t)
      const root = await key('root', { admin: true })
      const made = []
      const long = `${'long-name-'.repeat(12)}.tar.gz`
      for (const name of ['1.csv', '2.csv', '3.csv', '4.csv', long]) made.push(await offer(url, 'root', name, { key: root.key }))
      const act = (id, verb, body) => call(url, 'root', `/tasks/${id}/${verb}`, body, root.key)
      await act(made[0], 'claim')
      await act(made[0], 'complete', { outputs: [{ verified: true, hash: HASH, duration_ms: 1200, path: 'relayed' }] })
      await act(made[1], 'fail', { reason: 'the disk of the receiver is full, and this is a long sentence about it' })
      await act(made[2], 'claim')
      await act(made[3], 'reject')
      for (const [width, height] of [[320, 640], [768, 1024], [1920, 1080]]) {
        const page = await openPage(t, browser, url, { viewport: { width, height }, colorScheme, reducedMotion: 'reduce' })
        await page.getByLabel('Key').waitFor()
        await isAccessible(page, 'sign-in')
        await page.getByLabel('Key').fill(root.key)
        await page.getByLabel('Key').press('Enter')
        await isLive(page)
        await row(page, long).waitFor()
        await page.getByText('As a table').click()
        await page.locator('#days-chart svg').waitFor()
        await isAccessible(page, `list at ${width}`)
        await page.getByRole('button', { name: '2.csv' }).click()
        await page.locator('#trail-events tbody tr').first().waitFor()
        await isAccessible(page, `trail at ${width}`)
      }
    })
  }

  /** Neither does axe object to anything, nor is the page wider than its window. */
  async function isAccessible (page, what) {
    await page.evaluate(fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8'))
    const { violations, passes } = await page.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }))
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`)
    assert.deepEqual(told, [], what)
    assert.ok(passes.length > 10, `${what}: axe looked at ${passes.length} rules`)
    const [wide, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth])
    assert.ok(wide <= window, `${what}: ${wide} px in ${window} px`)
  }
})
