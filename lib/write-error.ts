import { randomUUID } from 'node:crypto'
import { basename, dirname, join } from 'node:path'
import { DiffusionError } from './errors.js'

/** A temporary name in the same folder, so that renaming it to `path` stays within one file system. */
export function temporaryName(path: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 100)}.${randomUUID()}.tmp`)
}

/** An error that says in plain words why `path` could not be written. */
export function writeError(path: string, cause: unknown): DiffusionError {
  return new DiffusionError('IO', `Cannot write ${path}: ${explain(cause as NodeJS.ErrnoException, path)}`, {
    cause,
  })
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
    case 'EDQUOT':
      return 'the disk quota is used up'
    case 'EFBIG':
      return 'the file is larger than the file system or a limit of this process allows'
    case 'ENAMETOOLONG':
      return 'the name is too long'
    default:
      return error.message
  }
}
