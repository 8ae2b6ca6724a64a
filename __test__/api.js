'use strict'

// Requests of every kind that the hub's own description of its API allows, and of kinds that it does not, made up by
// schemathesis. Ends with 1 where an answer is a 5xx, or not what the description says. It needs Python 3 and fetches
// schemathesis from PyPI into a folder beside this checkout's other modules; where it cannot, it says that it was
// skipped.
//
//   npm run test:api -- [--seconds N] [--seed N] [--database sqlite|postgres]

const { spawn, spawnSync } = require('node:child_process')
const { once } = require('node:events')
const path = require('node:path')
const { parseArgs } = require('node:util')
const { startHub } = require('..')
const { defer, tempFolder, withCleanup } = require('./fixtures/cleanup')
const { findPostgres, startPostgres } = require('./fixtures/postgres')

/** The version that this was written with. */
const SCHEMATHESIS = 'schemathesis==4.32.5'
const ENVIRONMENT = path.join(__dirname, '..', 'node_modules', '.cache', 'schemathesis')
const TOOL = path.join(ENVIRONMENT, process.platform === 'win32' ? 'Scripts/schemathesis.exe' : 'bin/schemathesis')
/** Above what one machine may ask of a hub by default. */
const REQUEST_RATE = 10_000
/** What each kind of database is begun with: the URL of an empty one, where it has one. */
const DATABASES = { sqlite: () => undefined, postgres: startPostgres }

/**
 * What is looked at. Not looked at: whether the hub takes all that its description allows, since a task has to be there
 * to be claimed; and a header that is missing where the description wants one, which a hub answers with 400 or 404.
 */
const CHECKS = [
  'not_a_server_error', 'status_code_conformance', 'content_type_conformance', 'response_headers_conformance',
  'response_schema_conformance', 'unsupported_method', 'use_after_free'
]

async function main () {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '60' },
      seed: { type: 'string' },
      database: { type: 'string', default: 'sqlite' }
    }
  })
  if (!(values.database in DATABASES)) throw new Error(`--database must be one of ${Object.keys(DATABASES).join(', ')}`)
  const problem = installed() ?? (values.database === 'postgres' && !findPostgres() ? 'PostgreSQL is not installed' : null)
  if (problem) {
    console.log(`skipped: ${problem}`)
    return
  }
  await withCleanup(async (t) => {
    const folder = tempFolder(t)
    const database = await DATABASES[values.database](t)
    const data = path.join(folder, 'hub')
    const hub = await startHub({ listen: '127.0.0.1:0', data, database, requestRate: REQUEST_RATE })
    defer(t, () => hub.close())
    const seed = values.seed ? ['--seed', values.seed] : []
    const args = [
      'run', `${hub.url}/openapi.json`, '--checks', CHECKS.join(), '--max-time', values.seconds, '--continue-on-failure',
      // The upgrade to a WebSocket is no answer of HTTP's.
      '--exclude-path', '/ws', '--no-color', ...seed
    ]
    const run = spawn(TOOL, args, { cwd: folder, stdio: 'inherit' })
    const [status] = await once(run, 'exit')
    process.exitCode = status === 0 ? 0 : 1
  })
}

/** Sees to it that the tool is there; says why it is not. */
function installed () {
  const finds = () => spawnSync(TOOL, ['--version']).status === 0
  if (finds()) return null
  const steps = [['python3', ['-m', 'venv', ENVIRONMENT]], [path.join(path.dirname(TOOL), 'pip'), ['install', '-q', SCHEMATHESIS]]]
  for (const [command, args] of steps) {
    const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
    if (status !== 0) return `${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`
  }
  return finds() ? null : `${TOOL} does not run`
}

main()
