import { onAbort, throwIfAborted } from './abort.js'
import { DiffusionError, isErrorCode } from './errors.js'
import { native, type CancelToken } from './native.js'

/** Turns an error of the engine that has a code into a DiffusionError. TypeErrors and RangeErrors stay what they are. */
function toDiffusionError(error: unknown): unknown {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: string }
  if (error instanceof DiffusionError || !isErrorCode(code)) return error
  return new DiffusionError(code, message ?? code, { cause: error })
}

/** Runs a native call that a signal can cancel. */
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
    // After an abort, the abort is the reason, whatever error the call failed with.
    throwIfAborted(signal)
    throw toDiffusionError(error)
  } finally {
    unsubscribe()
  }
}
