import { rename, rm, writeFile } from 'node:fs/promises'
import { throwIfAborted } from '../abort.js'
import { temporaryName, writeError } from '../write-error.js'

/**
 * Writes a file completely or not at all: under a temporary name in the same folder, which is then renamed.
 *
 * @throws {DiffusionError} IO: the file cannot be written; no partial file is left behind
 */
export async function writeWholeFile(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
  const temporary = temporaryName(path)
  try {
    await writeFile(temporary, data, { signal, flag: 'wx' })
    throwIfAborted(signal)
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    throwIfAborted(signal)
    throw writeError(path, cause)
  }
}
