/** The prompt from standard input. */
import { raceAbort } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { maxPromptLength } from '../options/texts.js'
import { printable } from '../quote.js'
import { UsageError, type Terminal } from './terminal.js'

/** In UTF-8, a UTF-16 unit takes up to three bytes. Space around the prompt is removed, within reason. */
const MAX_BYTES = 4 * maxPromptLength

/**
 * Reads standard input to its end, or as far as a prompt can reach.
 *
 * @throws {UsageError} it is empty, or longer than a prompt may be
 * @throws {DiffusionError} IO: it cannot be read
 */
export async function readPrompt({ stdin, signal }: Terminal): Promise<string> {
  const bytes = await raceAbort(signal, readBytes(stdin))
  const prompt = new TextDecoder().decode(bytes).trim()
  if (prompt === '') throw new UsageError('standard input is empty where a prompt was expected')
  if (bytes.length > MAX_BYTES || prompt.length > maxPromptLength) {
    throw new UsageError(`expected a prompt of at most ${maxPromptLength} characters on standard input`)
  }
  return prompt
}

/** Leaving the loop closes the stream, so that whoever writes an endless one notices. */
async function readBytes(stdin: Terminal['stdin']): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  try {
    for await (const chunk of stdin as AsyncIterable<Buffer | string>) {
      chunks.push(Buffer.from(chunk as Buffer))
      length += chunks.at(-1)!.length
      if (length > MAX_BYTES) break
    }
  } catch (cause) {
    throw new DiffusionError(
      'IO',
      `Cannot read the prompt from standard input: ${printable((cause as Error).message)}`,
      { cause },
    )
  }
  return Buffer.concat(chunks)
}
