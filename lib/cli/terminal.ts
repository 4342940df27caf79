import type { Readable } from 'node:stream'
import type { TerminalStream } from './progress.js'

/** Where a command reads and writes: the process's own streams, or a test's. */
export interface Terminal {
  stdin: Readable
  stdout: TerminalStream
  stderr: TerminalStream
  /** Aborted by Ctrl-C. */
  signal: AbortSignal
}

/** A combination of options that makes no sense: exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Writes all of it before it goes on: a pipe takes a picture in several parts. */
export function write(stream: NodeJS.WritableStream, data: string | Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(data, (error) => (error ? reject(error) : resolve()))
  })
}

/** JSON on one line; seeds of more than 53 bits as strings. */
export function jsonLine(value: unknown): string {
  return `${JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? String(v) : v))}\n`
}
