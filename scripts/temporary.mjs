/** The system's folder for temporary files, for the length of a test run. */
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'

// POSIX has the first; Windows looks at the other two.
const variables = ['TMPDIR', 'TEMP', 'TMP']
/** Of compiled scripts, by tap and by tsc: caches that are meant to stay. */
const caches = /^(?:v8|node)-compile-cache/
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']

/**
 * Runs `work` with a folder of its own for temporary files, for itself and for every process that it starts, then removes
 * it: what a test leaves when it fails, or is killed, goes with it. Returns what `work` does and the names of what was left.
 */
export async function withTemporaryFolder(work) {
  // Resolved, as some systems have a link in its place: tests compare paths.
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'nd-test-'))
  const before = variables.map((name) => [name, process.env[name]])
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
  const interrupted = (signal) => {
    remove()
    process.exit(128 + constants.signals[signal])
  }
  for (const name of variables) process.env[name] = folder
  process.on('exit', remove)
  for (const signal of signals) process.on(signal, interrupted)
  try {
    const result = await work()
    return { result, left: readdirSync(folder).filter((name) => !caches.test(name)) }
  } finally {
    for (const signal of signals) process.off(signal, interrupted)
    process.off('exit', remove)
    remove()
    for (const [name, value] of before)
      if (value === undefined) delete process.env[name]
      else process.env[name] = value
  }
}

/** Prints the names of what tests left behind; how many there are. */
export function reportLeft(left) {
  for (const name of left) console.error(`A test left this in the folder for temporary files: ${name}`)
  return left.length
}
