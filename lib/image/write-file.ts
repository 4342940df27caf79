import { randomUUID } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { DiffusionError } from '../errors.js'

/**
 * Writes a file as a whole or not at all: under a temporary name beside it, then renamed over it.
 *
 * @throws {DiffusionError} IO: it cannot be written there; nothing is left behind
 */
export async function writeWholeFile(path: string, data: Uint8Array, signal?: AbortSignal): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path).slice(0, 100)}.${randomUUID()}.tmp`)
  try {
    await writeFile(temporary, data, { signal, flag: 'wx' })
    signal?.throwIfAborted()
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    if (signal?.aborted) throw signal.reason
    throw new DiffusionError('IO', `Cannot write ${path}: ${explain(cause as NodeJS.ErrnoException, path)}`, {
      cause,
    })
  }
}

function explain(error: NodeJS.ErrnoException, path: string): string {
  switch (error.code) {
    case 'ENOENT':
      return `there is no folder ${dirname(path)}`
    case 'ENOTDIR':
      return `${dirname(path)} is not a folder`
    case 'EISDIR':
      return 'it is a folder'
    case 'EACCES':
    case 'EPERM':
      return 'permission denied'
    case 'EROFS':
      return 'the file system is read-only'
    case 'ENOSPC':
      return 'no space left on the device'
    case 'ENAMETOOLONG':
      return 'the name is too long'
    default:
      return error.message
  }
}
