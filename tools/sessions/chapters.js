'use strict'

// What is recorded: each session is a command, and what happens around it.

const GIGABYTE = 1e9
const SEND = 'ats-p2p send report.pdf --to agent-b'

/** Ctrl-C in the middle of something. */
function interrupted (pattern, caption) {
  return async ({ until, show, interrupt }) => {
    await until(pattern)
    show(caption)
    interrupt()
  }
}

async function untilListening ({ until, interrupt }) {
  await until(/127\.0\.0\.1:\d+\n.*127\.0\.0\.1:\d+/)
  interrupt()
}

/** A file that has arrived, of the same agent, with the state that its commands look at. */
async function sent (world) {
  await world.takes('agent-b')
  const { transferId } = await world.run(['send', 'report.pdf', '--to', 'agent-b']).line('transfer_complete')
  Object.assign(world, { transferId })
}

/** One that waits, in another process of the same agent. */
async function offered (world) {
  const { transferId } = await world.run(['send', 'report.pdf', '--to', 'agent-b']).line('offer_sent')
  Object.assign(world, { transferId })
}

const CHAPTERS = [
  {
    title: 'Sending',
    text: 'To an agent that listens, on 80 columns, on 40, through a pipe, and without colours.',
    sessions: [
      { caption: 'On 80 columns', command: SEND, before: world => world.takes('agent-b') },
      { caption: 'On 40 columns', command: SEND, columns: 40, before: world => world.takes('agent-b') },
      { command: `${SEND} | cat`, before: world => world.takes('agent-b') },
      { caption: 'Without colours, by NO_COLOR', command: SEND, env: { NO_COLOR: '1' }, plain: true, before: world => world.takes('agent-b') },
      { command: `${SEND} --quiet`, before: world => world.takes('agent-b') }
    ]
  },
  {
    title: 'Ctrl-C in each phase',
    text: 'The offer is withdrawn, or the transfer ended, on both sides; the exit code is 130.',
    sessions: [
      { command: 'ats-p2p send disk.img --to agent-b', before: world => world.zeros('disk.img', 500 * GIGABYTE), during: interrupted(/hashing .*MB\/s.*left/, 'While the file is read') },
      { command: SEND, during: interrupted(/^Offered[^]+waiting +0:\d\d$/m, 'While nobody has accepted') },
      { command: SEND, before: world => world.claims('agent-b'), during: interrupted(/^Offered[^]+connecting +0:\d\d$/m, 'While the two look for each other') },
      {
        command: 'ats-p2p send disk.img --to agent-b',
        before (world) {
          world.zeros('disk.img', 0.2 * GIGABYTE)
          world.stops('agent-b', 0.02 * GIGABYTE)
        },
        during: interrupted(/^Path[^]+transferring .*\d %/m, 'While bytes go')
      },
      { command: SEND, before: world => world.stops('agent-b'), during: interrupted(/^Path[^]+verifying .*100 %/m, 'While the recipient verifies what has come') }
    ]
  },
  {
    title: 'A terminal that gets narrower',
    text: 'The line is drawn anew in the room that there is.',
    sessions: [
      {
        command: 'ats-p2p send disk.img --to agent-b',
        before: world => world.zeros('disk.img', 500 * GIGABYTE),
        async during ({ until, show, interrupt, resize }) {
          await until(/hashing .*MB\/s.*left/)
          show('On 80 columns')
          resize(40)
          await until(/^disk\.img  hashing +[─━]+ +\d+ %$/m)
          show('On 40 columns')
          interrupt()
        }
      }
    ]
  },
  {
    title: 'Receiving',
    text: 'Until Ctrl-C.',
    sessions: [
      {
        command: 'ats-p2p listen',
        env: { ATS_ACTOR_ID: 'agent-b' },
        async during ({ world, until, interrupt }) {
          await until(/^Listening/m)
          const sender = await world.sender('agent-a')
          await sender.send({ filePath: `${world.folder}/report.pdf`, recipientId: 'agent-b' })
          await until(/verified$/m)
          interrupt()
        }
      }
    ]
  },
  {
    title: 'Asking',
    text: 'What the commands that ask something answer.',
    sessions: [
      { command: ({ transferId }) => `ats-p2p status ${transferId}`, before: sent },
      { command: ({ transferId }) => `ats-p2p verify ${transferId} report.pdf`, before: sent },
      { command: ({ transferId }) => `ats-p2p cancel ${transferId}`, before: offered },
      { command: ({ transferId }) => `ats-p2p wait ${transferId}`, before: sent },
      { command: 'ats-p2p resume' },
      { command: 'ats-p2p whoami' },
      { command: 'ats-p2p health' },
      { command: 'ats-p2p id' },
      { command: 'ats-p2p peers' },
      { command: 'ats-p2p send none.pdf --to agent-b' },
      { command: 'ats-p2p send report.pdf' }
    ]
  },
  {
    title: 'A service of your own',
    text: 'A hub, an invitation to it, a node of the DHT, and all of it at once.',
    sessions: [
      { command: 'ats-p2p hub --listen 127.0.0.1:0', during: untilListening },
      { command: 'ats-p2p hub invite --actor agent-b' },
      {
        command: ({ hub }) => `ats-p2p join ${hub.url}`,
        async during ({ until, type }) {
          await until(/^Invitation: $/m)
          type('not an invitation\r')
        }
      },
      { command: 'ats-p2p dht --host 127.0.0.1 --port 0', during: untilListening },
      { command: 'ats-p2p demo' },
      { command: 'ats-p2p doctor | head -1' }
    ]
  }
]

module.exports = { CHAPTERS }
