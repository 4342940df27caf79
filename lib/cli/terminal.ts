/** The streams of a command, and the ways to write to them. Text is escaped: it may come from files and prompts. */
import type { Readable } from 'node:stream'
import { raceAbort } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { printable } from '../quote.js'
import { describeFailure } from '../write-error.js'
import type { TerminalStream } from './progress.js'

/** The streams that a command reads from and writes to: those of the process or of a test. */
export interface Terminal {
  stdin: Readable
  stdout: TerminalStream
  stderr: TerminalStream
  /** Aborted by Ctrl-C. */
  signal: AbortSignal
}

/** A combination of options that makes no sense. The exit status is 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Text of several lines without characters that a terminal would interpret. */
export function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}

/**
 * Prints a result on standard output. A reader that has left, as in `node-diffusion … | head`, is no failure.
 *
 * @throws {DiffusionError} IO: it cannot be written
 */
export function print(terminal: Terminal, text: string): Promise<void> {
  return printRaw(terminal, printableLines(text))
}

async function printRaw({ stdout, signal }: Terminal, text: string): Promise<void> {
  try {
    await raceAbort(signal, write(stdout, text))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw outputError(error, signal)
  }
}

/** Prints the paths of files, a line each. Programs get them as they are. */
export async function printPaths(terminal: Terminal, paths: readonly string[]): Promise<void> {
  const lines = paths.map((path) => `${terminal.stdout.isTTY ? printable(path) : path}\n`)
  await printRaw(terminal, lines.join(''))
}

/**
 * Writes an image to standard output, where all of it must arrive.
 *
 * @throws {DiffusionError} IO: it cannot be written
 */
export async function printBytes({ stdout, signal }: Terminal, bytes: Uint8Array): Promise<void> {
  try {
    await raceAbort(signal, write(stdout, bytes))
  } catch (error) {
    throw outputError(error, signal)
  }
}

/** Prints a message on standard error. If that is closed, nobody can be told, and the work goes on. */
export function tell({ stderr }: Pick<Terminal, 'stderr'>, text: string): void {
  stderr.write(printableLines(text))
}

/** JSON on one line. Seeds of more than 53 bits become strings. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}\n`
}

/** Resolves when everything has been written: a pipe takes an image in several parts. */
function write(stream: NodeJS.WritableStream, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()))
  })
}

function outputError(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return error
  const reason = describeFailure(error as NodeJS.ErrnoException)
  return new DiffusionError('IO', `Cannot write to standard output: ${reason}`, { cause: error })
}
