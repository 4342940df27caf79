/** Parses the arguments, runs the command, reports errors and returns the exit status. */
import { CommanderError } from 'commander'
import type { Engine } from './engine.js'
import { createProgram } from './program.js'
import { UsageError, type Terminal } from './terminal.js'

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** @param args the arguments after the program's name */
export async function run(
  args: string[],
  version: string,
  terminal: Terminal,
  engine: Engine,
): Promise<number> {
  const program = createProgram(version, {
    generate: async (prompt, flags) =>
      (await import('./generate.js')).generate(prompt, flags, terminal, engine),
    info: async (model, flags) => (await import('./info.js')).info(model, flags, terminal, engine),
    quantize: async (input, output, flags) =>
      (await import('./quantize.js')).quantize(input, output, flags, terminal, engine),
    schedulers: async (flags) => (await import('./info.js')).schedulers(flags, terminal, engine),
  })
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      getOutHelpWidth: () => Math.min((terminal.stdout as NodeJS.WriteStream).columns || 100, 100),
    })
  }
  try {
    await program.parseAsync(args, { from: 'user' })
    return EXIT.ok
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage
    if (terminal.signal.aborted) {
      terminal.stderr.write('Interrupted\n')
      return EXIT.interrupted
    }
    terminal.stderr.write(explain(error, args.includes('--verbose') || args.includes('-v')))
    return isUsage(error) ? EXIT.usage : EXIT.failed
  }
}

/** One line, or with --verbose the stack traces. */
function explain(error: unknown, verbose: boolean): string {
  if (verbose || process.env.DEBUG) {
    const causes: string[] = []
    for (let e = error; e instanceof Error; e = e.cause) causes.push(e.stack ?? e.message)
    return `error: ${causes.join('\ncaused by: ') || String(error)}\n`
  }
  const message = error instanceof Error ? error.message || error.name : String(error)
  return `error: ${message.trim()}\n`
}

/** Whether the library refused an option: that is wrong usage of the program. */
function isUsage(error: unknown): boolean {
  if (error instanceof UsageError) return true
  return (
    (error instanceof TypeError || error instanceof RangeError) &&
    /^(Expected|Scheduler option) /.test(error.message)
  )
}
