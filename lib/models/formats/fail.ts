import { DiffusionError } from '../../errors.js'

/** An error for a file that breaks the rules of its format or lacks something. */
export function badFormat(path: string, message: string, cause?: unknown): DiffusionError {
  return new DiffusionError(
    'MODEL_FORMAT',
    `${path}: ${message}`,
    cause === undefined ? undefined : { cause },
  )
}

/** An error for a valid file of a model that the engine cannot run. */
export function unsupported(path: string, message: string): DiffusionError {
  return new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
}
