import { inSlices } from '../../event-loop.js'
import { parseInSteps, type ParseOptions } from '../../json-parser.js'
import { parseShort } from '../../short-json.js'
import { badFormat } from './fail.js'
import { notAModel } from './other-files.js'

export interface JsonOptions extends ParseOptions {
  /** What the text is if it is not the whole file, for messages. */
  what?: string
}

/**
 * Parses the text of a file, or a part of it, without keeping the event loop. Objects have no prototype.
 *
 * @throws {DiffusionError} MODEL_FORMAT: it is not valid JSON in UTF-8; the message names the position
 */
export async function parseJson(path: string, text: Buffer, options: JsonOptions = {}): Promise<unknown> {
  const { what } = options
  try {
    const short = parseShort(text, options)
    return short ? short.value : await inSlices(parseInSteps(text, options))
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error
    const other = what === undefined ? notAModel(path, text.subarray(0, 64)) : undefined
    throw other ?? badFormat(path, `${what === undefined ? '' : `${what} `}${error.message}`)
  }
}
