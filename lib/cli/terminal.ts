import type { Readable } from 'node:stream'
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

/** Resolves when everything has been written: a pipe takes an image in several parts. */
export function write(stream: NodeJS.WritableStream, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()))
  })
}

/** JSON on one line. Seeds of more than 53 bits become strings. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}\n`
}
