#!/usr/bin/env node
/** The program `node-diffusion`. Everything heavy is imported by the command that needs it. */
import { readFileSync } from 'node:fs'
import { library } from './engine.js'
import { EXIT, run } from './run.js'

/** From the nearest package.json above: the compiled file lies at different depths in the package and in tests. */
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
  // The first asks for an orderly end, which takes a tenth of a second; whoever asks twice gets an immediate one.
  if (abort.signal.aborted) process.exit(EXIT.interrupted)
  abort.abort()
}
process.on('SIGINT', interrupt).on('SIGTERM', interrupt)
// `node-diffusion … | head` closes the pipe early: nobody is left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? EXIT.ok : EXIT.failed),
)

const { stdin, stdout, stderr } = process
process.exitCode = await run(
  process.argv.slice(2),
  packageVersion(),
  { stdin, stdout, stderr, signal: abort.signal },
  library,
)
// A prompt that was being read from a terminal would keep the process alive.
if (abort.signal.aborted) stdin.destroy()
