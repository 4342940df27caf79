import { DiffusionError } from '../errors.js'
import { cancellable } from '../native-call.js'
import type { CancelToken } from '../native.js'
import { Line } from '../queue.js'

/** What every computing call of a component takes. */
export interface CallOptions {
  /** Ends the call within 100 ms: it rejects with the signal's reason. */
  signal?: AbortSignal
}

/** What all native models have. */
interface NativeModel {
  readonly weightBytes: number
  trim(): void
  dispose(): void
}

/**
 * What `loading` resolves to. After an abort it rejects at once and does not wait for what has been loaded so far to be
 * freed: of gigabytes, that takes longer than an abort may. Should loading succeed all the same, its result is disposed of.
 */
export async function abandonable<T extends { dispose(): Promise<void> }>(
  signal: AbortSignal | undefined,
  loading: Promise<T>,
): Promise<T> {
  if (!signal) return loading
  let onAbort!: () => void
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
  })
  try {
    return await Promise.race([loading, aborted])
  } catch (error) {
    loading.then(
      (late) => late.dispose(),
      () => {},
    )
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/**
 * A part of a model in the engine: weights, and one call at a time, in the order of the callers. (Waiting here and not in
 * the engine keeps libuv's few threads free for the rest of the program.)
 */
export abstract class Component<Model extends NativeModel> {
  /** Bytes of the weights in memory. */
  readonly weightBytes: number
  readonly #model: Model
  readonly #line = new Line()
  readonly #closing = new AbortController()
  #disposing?: Promise<void>

  protected constructor(
    model: Model,
    private readonly name: string,
  ) {
    this.#model = model
    this.weightBytes = model.weightBytes
  }

  /** Whether dispose() was called. */
  get disposed(): boolean {
    return this.#closing.signal.aborted
  }

  /** The native model, for questions that are answered at once. */
  protected get model(): Model {
    this.#closing.signal.throwIfAborted()
    return this.#model
  }

  /** Waits for its turn, then runs `start` until it is done, aborted or this is disposed. */
  protected async call<T>(
    signal: AbortSignal | undefined,
    start: (model: Model, cancel: CancelToken) => Promise<T>,
  ): Promise<T> {
    const either = joinSignals(signal, this.#closing.signal)
    try {
      const end = await this.#line.turn(either.signal)
      try {
        return await cancellable(either.signal, (cancel) => start(this.#model, cancel))
      } finally {
        end()
      }
    } finally {
      either.release()
    }
  }

  /** Gives working memory back to the system; the next call takes it again. */
  trim(): void {
    if (!this.disposed) this.#model.trim()
  }

  /** Frees everything. Calls under way and those that wait reject with a DiffusionError of code DISPOSED. */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      const reason = new DiffusionError('DISPOSED', `This ${this.name} was disposed of`)
      this.#closing.abort(reason)
      await this.#line.close(reason)
      this.#model.dispose()
    })()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}

/**
 * A signal that follows either of two; `release` lets go of both. (AbortSignal.any has no way to let go, and would keep
 * every call's listeners on a signal that lives as long as the server.)
 */
export function joinSignals(
  a: AbortSignal | undefined,
  b: AbortSignal,
): { signal: AbortSignal; abort: (reason: unknown) => void; release: () => void } {
  const controller = new AbortController()
  const onA = () => controller.abort(a!.reason)
  const onB = () => controller.abort(b.reason)
  if (b.aborted) onB()
  else if (a?.aborted) onA()
  else {
    a?.addEventListener('abort', onA, { once: true })
    b.addEventListener('abort', onB, { once: true })
  }
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    release: () => {
      a?.removeEventListener('abort', onA)
      b.removeEventListener('abort', onB)
    },
  }
}
