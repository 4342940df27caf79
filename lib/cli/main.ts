#!/usr/bin/env node
/** The program `node-diffusion`. Each command imports what it needs, so that the program starts fast. */
import { readFileSync } from 'node:fs'
import { library } from './engine.js'
import { EXIT, run } from './run.js'

/**
 * The version in the nearest package.json above: the compiled file lies at different depths in the package and in
 * tests.
 */
function packageVersion(): string {
  for (let folder = new URL('./', import.meta.url); ; folder = new URL('../', folder)) {
    try {
      const { name, version } = JSON.parse(readFileSync(new URL('package.json', folder), 'utf8')) as Record<
        string,
        string
      >
      if (name === 'node-diffusion') return version
    } catch {
      // No package.json here.
    }
    if (folder.pathname === '/' || folder.href === new URL('../', folder).href) return 'unknown'
  }
}

const abort = new AbortController()
const interrupt = (): void => {
  // The first signal ends the program in an orderly way, which takes a tenth of a second; the second ends it at once.
  if (abort.signal.aborted) process.exit(EXIT.interrupted)
  abort.abort()
}
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGBREAK'] as const) process.on(signal, interrupt)
// Without this, Node takes back the handlers as it ends, and a signal then ends a program whose work is done.
process.on('beforeExit', () => process.exit())
// A closed stream must not end the program, whose work may be a file. Whoever prints a result learns of the failure.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {})

const { stdin, stdout, stderr } = process
process.exitCode = await run(
  process.argv.slice(2),
  packageVersion(),
  { stdin, stdout, stderr, signal: abort.signal },
  library,
)
// A prompt or a pipe that nobody reads would keep the process alive.
if (abort.signal.aborted) process.exit()
