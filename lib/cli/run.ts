/** Parses the arguments, runs the command, reports errors and returns the exit status. */
import { CommanderError, type Command } from 'commander'
import { shorten } from '../quote.js'
import { hintFor } from './aliases.js'
import type { Engine } from './engine.js'
import { createProgram } from './program.js'
import { print, tell, UsageError, type Terminal } from './terminal.js'
import { inFlags } from './wording.js'

export const EXIT = { ok: 0, failed: 1, usage: 2, interrupted: 130 } as const

/** Characters of a message about the arguments, which repeats them. */
const MAX_USAGE_LENGTH = 400

/** @param args the arguments after the program's name */
export async function run(
  args: string[],
  version: string,
  terminal: Terminal,
  engine: Engine,
): Promise<number> {
  const help: string[] = []
  const program = createProgram(version, {
    generate: async (prompts, flags) =>
      (await import('./generate.js')).generate(prompts, flags, terminal, engine),
    info: async (model, flags) => (await import('./info.js')).info(model, flags, terminal, engine),
    quantize: async (input, output, flags) =>
      (await import('./quantize.js')).quantize(input, output, flags, terminal, engine),
    merge: async (input, output, flags) =>
      (await import('./quantize.js')).merge(input, output, flags, terminal, engine),
    build: async (flags) => (await import('./build.js')).build(flags, terminal),
    pull: async (reference, flags) => (await import('./hub.js')).pull(reference, flags, terminal, engine),
    list: async (flags) => (await import('./hub.js')).list(flags, terminal, engine),
    schedulers: async (flags) => (await import('./info.js')).schedulers(flags, terminal, engine),
    presets: async (flags) => (await import('./info.js')).presets(flags, terminal, engine),
  })
  for (const command of [program, ...program.commands]) {
    command.exitOverride().configureOutput({
      writeOut: (text) => help.push(text),
      outputError: (text) => tell(terminal, usageError(text, command)),
      getOutHelpWidth: () => Math.min((terminal.stdout as NodeJS.WriteStream).columns || 80, 100),
    })
  }
  try {
    try {
      await program.parseAsync(args, { from: 'user' })
      return EXIT.ok
    } catch (error) {
      if (!(error instanceof CommanderError)) throw error
      if (error.exitCode !== 0) return EXIT.usage
      await print(terminal, help.join(''))
      return EXIT.ok
    }
  } catch (error) {
    if (terminal.signal.aborted) {
      tell(terminal, 'Interrupted\n')
      return EXIT.interrupted
    }
    tell(terminal, explain(error, args.includes('--verbose') || args.includes('-v')))
    return isUsage(error) ? EXIT.usage : EXIT.failed
  }
}

/** Commander's message about the arguments, with a hint if an option is unknown. */
function usageError(text: string, command: Command): string {
  const [, unknown] = /^error: unknown option '(.*)'$/s.exec(text.trim()) ?? []
  const hint = unknown === undefined ? undefined : hintFor(unknown, command)
  return `${shorten(text.trim(), MAX_USAGE_LENGTH)}\n${hint === undefined ? '' : `(${hint})\n`}`
}

/** One line, or with --verbose the stack traces. */
function explain(error: unknown, verbose: boolean): string {
  if (verbose || process.env.DEBUG) {
    const causes: string[] = []
    for (let e = error; e instanceof Error; e = e.cause) causes.push(e.stack ?? e.message)
    return `error: ${causes.join('\ncaused by: ') || String(error)}\n`
  }
  const message = error instanceof Error ? error.message || error.name : String(error)
  return `error: ${inFlags(message.trim())}\n`
}

/** Whether the library refused an option: that is wrong usage of the program. */
function isUsage(error: unknown): boolean {
  if (error instanceof UsageError) return true
  return (
    (error instanceof TypeError || error instanceof RangeError) &&
    /^(Expected|Scheduler option) /.test(error.message)
  )
}
