/** What went wrong, for programs: stable across versions. */
export type DiffusionErrorCode =
  | 'MODEL_NOT_FOUND'
  | 'MODEL_FORMAT'
  | 'MODEL_SHAPE'
  | 'UNSUPPORTED_MODEL'
  | 'OUT_OF_MEMORY'
  | 'DISPOSED'
  | 'IO'
  | 'NATIVE_UNAVAILABLE'

/**
 * Everything that can go wrong apart from a wrong type (`TypeError`), a value out of bounds (`RangeError`) and an abort
 * (the signal's own reason). `code` is stable; the message says which file, tensor or option, what was expected and
 * what came.
 */
export class DiffusionError extends Error {
  override readonly name = 'DiffusionError'
  readonly code: DiffusionErrorCode

  constructor(code: DiffusionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}
