import { joinSignals, raceAbort, throwIfAborted } from '../abort.js'
import { DiffusionError } from '../errors.js'
import { FairLock } from '../fair-lock.js'
import { requireMemory } from '../memory.js'
import { cancellable } from '../native-call.js'
import type { CancelToken, DeviceMemory, Freed, ModelSource } from '../native.js'
import type { LoadOptions } from '../options/index.js'
import type { DeviceName } from '../types.js'

/** Options of every call that computes. */
export interface CallOptions {
  /** Aborts the call within 100 ms; it rejects with the signal's reason. */
  signal?: AbortSignal
}

/** The common part of all native models. */
interface NativeModel {
  readonly weightBytes: number
  deviceMemory(): DeviceMemory | null
  readonly threadBytes: number
  trim(): Promise<void> | undefined
  dispose(): Freed
}

/** Sets how a component will multiply, where an option says so. */
export function setArithmetic(
  source: ModelSource,
  { precision, kernels }: Pick<LoadOptions, 'precision' | 'kernels'>,
): void {
  if (precision) source.precision = precision
  if (kernels) source.kernels = kernels
}

/**
 * Waits for `loading`. After an abort it rejects at once and does not wait until the weights that have been loaded are
 * freed: for gigabytes that takes longer than an abort may. If loading succeeds all the same, the result is disposed.
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
 * A component of a model in the engine. Calls are served one at a time, in the order in which they came. They wait here
 * and not on a thread of the engine.
 */
export abstract class Component<Model extends NativeModel> {
  /** Bytes of the weights in memory, with those of the model that it is a variant of. */
  readonly weightBytes: number
  /** Where it computes. */
  readonly device: DeviceName
  readonly #model: Model
  readonly #lock = new FairLock()
  readonly #closing = new AbortController()
  /** Settles when no trim() is under way. */
  #trimmed?: Promise<void>
  #disposing?: Promise<void>

  protected constructor(
    model: Model,
    protected readonly name: string,
    device: DeviceName,
    base?: Component<Model>,
  ) {
    this.#model = model
    this.weightBytes = model.weightBytes + (base?.weightBytes ?? 0)
    this.device = device
  }

  /** Whether dispose() was called. */
  get disposed(): boolean {
    return this.#closing.signal.aborted
  }

  /** The native model, for synchronous calls. */
  protected get model(): Model {
    throwIfAborted(this.#closing.signal)
    return this.#model
  }

  /** Waits for the lock, then runs `start`. An abort and dispose() end both. */
  protected async call<T>(
    signal: AbortSignal | undefined,
    start: (model: Model, cancel: CancelToken) => Promise<T>,
  ): Promise<T> {
    const joined = joinSignals(signal, this.#closing.signal)
    try {
      const release = await this.#lock.acquire(joined.signal)
      try {
        return await cancellable(joined.signal, (cancel) => start(this.#model, cancel))
      } finally {
        release()
      }
    } catch (error) {
      // A caller may await dispose() before this promise: until then nothing handles a rejection.
      if (this.disposed && !signal?.aborted) await this.#disposing
      throw error
    } finally {
      joined.release()
    }
  }

  /** Bytes of memory that are free on its GPU; undefined on the CPU. */
  freeDeviceMemory(): number | undefined {
    return this.model.deviceMemory()?.free
  }

  /**
   * Refuses a call for which the memory of this process is too small, before anything is allocated for it. A GPU refuses
   * by itself what does not fit.
   */
  protected requireMemory(working: () => number, what: string): void {
    if (this.device === 'cpu') requireMemory(this.weightBytes + this.threadBytes + working(), what)
  }

  /** Bytes that the threads need in a call besides its working memory; they depend on the number of threads. */
  get threadBytes(): number {
    return this.#model.threadBytes
  }

  /** Releases working memory; the next call allocates it again. */
  async trim(): Promise<void> {
    const trimming = this.#trim()
    this.#trimmed = Promise.all([this.#trimmed, trimming]).then(() => {})
    await trimming
  }

  async #trim(): Promise<void> {
    try {
      await this.#model.trim()
    } catch {
      // It has been disposed of, and has no memory any more.
    }
  }

  /**
   * Frees the component. Running and waiting calls reject with a DiffusionError of code DISPOSED. Resolves when its memory is
   * free.
   */
  dispose(): Promise<void> {
    this.#disposing ??= (async () => {
      const reason = new DiffusionError('DISPOSED', `This ${this.name} has been disposed`)
      this.#closing.abort(reason)
      await this.#lock.close(reason)
      await this.#trimmed
      await this.#model.dispose()
    })()
    return this.#disposing
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose()
  }
}
