import { printable } from './quote.js'

/** What went wrong. The codes are stable across versions. */
export type DiffusionErrorCode =
  | 'MODEL_NOT_FOUND'
  | 'MODEL_FORMAT'
  | 'MODEL_SHAPE'
  | 'UNSUPPORTED_MODEL'
  | 'OUT_OF_MEMORY'
  | 'DISPOSED'
  | 'DEADLOCK'
  | 'IO'
  | 'NATIVE_UNAVAILABLE'
  | 'DEVICE_UNAVAILABLE'
  | 'DEVICE_LOST'

/** The codes as values. The type makes sure that none is missing. */
const codes: Record<DiffusionErrorCode, true> = {
  MODEL_NOT_FOUND: true,
  MODEL_FORMAT: true,
  MODEL_SHAPE: true,
  UNSUPPORTED_MODEL: true,
  OUT_OF_MEMORY: true,
  DISPOSED: true,
  DEADLOCK: true,
  IO: true,
  NATIVE_UNAVAILABLE: true,
  DEVICE_UNAVAILABLE: true,
  DEVICE_LOST: true,
}

export function isErrorCode(code: unknown): code is DiffusionErrorCode {
  return typeof code === 'string' && Object.hasOwn(codes, code)
}

/**
 * Any failure other than a wrong type (`TypeError`), a value out of bounds (`RangeError`) and an abort (the signal's
 * own reason). `code` is stable; the message names the file, tensor or option, what was expected and what was found.
 */
export class DiffusionError extends Error {
  override readonly name = 'DiffusionError'
  readonly code: DiffusionErrorCode

  constructor(code: DiffusionErrorCode, message: string, options?: { cause?: unknown }) {
    // Paths and names from files can contain anything, and messages go to terminals.
    super(message.split('\n').map(printable).join('\n'), options)
    this.code = code
  }
}
