import { onAbort, throwIfAborted } from './abort.js'
import { DiffusionError, type DiffusionErrorCode } from './errors.js'
import { native, type CancelToken } from './native.js'

const codes: readonly string[] = [
  'MODEL_NOT_FOUND', 'MODEL_FORMAT', 'MODEL_SHAPE', 'UNSUPPORTED_MODEL', 'OUT_OF_MEMORY', 'DISPOSED', 'IO',
  'NATIVE_UNAVAILABLE',
] satisfies DiffusionErrorCode[] // prettier-ignore

/** The engine's errors carry a code: they become ours. TypeError and RangeError stay what they are. */
function toDiffusionError(error: unknown): unknown {
  const { code, message } = (error ?? {}) as { code?: string; message?: string }
  if (error instanceof DiffusionError || typeof code !== 'string' || !codes.includes(code)) return error
  return new DiffusionError(code as DiffusionErrorCode, message ?? code, { cause: error })
}

/** Runs one native call that a signal can cancel. */
export async function cancellable<T>(
  signal: AbortSignal | undefined,
  start: (cancel: CancelToken) => Promise<T>,
): Promise<T> {
  throwIfAborted(signal)
  const token = new (native().CancelToken)()
  const unsubscribe = onAbort(signal, () => token.cancel())
  try {
    return await start(token)
  } catch (error) {
    // Whatever the call failed with after the abort, the abort is why.
    throwIfAborted(signal)
    throw toDiffusionError(error)
  } finally {
    unsubscribe()
  }
}
