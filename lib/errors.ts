/** @internal All codes of DiffusionError. */
export const errorCodes = [
  'MODEL_NOT_FOUND',
  'MODEL_FORMAT',
  'MODEL_SHAPE',
  'UNSUPPORTED_MODEL',
  'OUT_OF_MEMORY',
  'DISPOSED',
  'IO',
  'NATIVE_UNAVAILABLE',
] as const

/** What went wrong. The codes are stable across versions. */
export type DiffusionErrorCode = (typeof errorCodes)[number]

/**
 * Any failure other than a wrong type (`TypeError`), a value out of bounds (`RangeError`) and an abort (the signal's
 * own reason). `code` is stable; the message names the file, tensor or option, what was expected and what was found.
 */
export class DiffusionError extends Error {
  override readonly name = 'DiffusionError'
  readonly code: DiffusionErrorCode

  constructor(code: DiffusionErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.code = code
  }
}
