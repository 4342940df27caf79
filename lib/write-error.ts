import { dirname } from 'node:path'
import { DiffusionError } from './errors.js'
import { printable } from './quote.js'

/** An error that says in plain words why `path` could not be written. Errors that do so already stay as they are. */
export function writeError(path: string, cause: unknown): DiffusionError {
  if (cause instanceof DiffusionError) return cause
  const reason = describeFailure(cause as NodeJS.ErrnoException, path)
  return new DiffusionError('IO', `Cannot write ${printable(path)}: ${reason}`, { cause })
}

/** Why writing failed, with the system's code for it: `no space left on the device (ENOSPC)`. */
export function describeFailure(error: NodeJS.ErrnoException, path = ''): string {
  const reason = printable(explain(error, path))
  return error.code === undefined || reason.includes(error.code) ? reason : `${reason} (${error.code})`
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
    case 'EPIPE':
      return 'its reader has closed it'
    default:
      return error.message
  }
}
