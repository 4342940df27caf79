import { DiffusionError } from '../errors.js'

/** The file breaks its format's rules, or lacks something that it must have. */
export function badFormat(path: string, message: string, cause?: unknown): DiffusionError {
  return new DiffusionError(
    'MODEL_FORMAT',
    `${path}: ${message}`,
    cause === undefined ? undefined : { cause },
  )
}

/** A sound file of a model that this engine cannot run. */
export function unsupported(path: string, message: string): DiffusionError {
  return new DiffusionError('UNSUPPORTED_MODEL', `${path}: ${message}`)
}
