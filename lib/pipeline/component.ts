import { joinSignals, raceAbort, throwIfAborted } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { FairLock } from '../fair-lock.js'
import { cancellable } from '../native-call.js'
import type { CancelToken } from '../native.js'

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
 * What `loading` resolves to. After an abort it rejects at once and does not wait until what has been loaded so far is
 * freed: gigabytes take longer than an abort may. If loading succeeds all the same, the result is disposed.
 */
export async function loadUnlessAborted<T extends { dispose(): Promise<void> }>(
  signal: AbortSignal | undefined,
  loading: Promise<T>,
): Promise<T> {
  try {
    return await raceAbort(signal, loading)
  } catch (error) {
    loading.then(
      (late) => late.dispose(),
      () => {},
    )
    throw error
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
  readonly #lock = new FairLock()
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
    throwIfAborted(this.#closing.signal)
    return this.#model
  }

  /** Waits for its turn, then runs `start` until it is done, aborted or this is disposed. */
  protected async call<T>(
    signal: AbortSignal | undefined,
    start: (model: Model, cancel: CancelToken) => Promise<T>,
  ): Promise<T> {
    const either = joinSignals(signal, this.#closing.signal)
    try {
      const release = await this.#lock.acquire(either.signal)
      try {
        return await cancellable(either.signal, (cancel) => start(this.#model, cancel))
      } finally {
        release()
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
      await this.#lock.close(reason)
      this.#model.dispose()
    })()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}
