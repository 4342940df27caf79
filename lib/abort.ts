/**
 * Abort signals as users bring them: from this realm, another one or a library. Only `aborted`, `reason` and the event
 * listener methods are relied on, which is what checkSignal() asks for.
 */

/** Why the signal was aborted. Some implementations have no `reason`. */
export function abortReason(signal: AbortSignal): unknown {
  return signal.reason ?? new DOMException('This operation was aborted', 'AbortError')
}

export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortReason(signal)
}

/** The listener of this package on a signal, and the callbacks that it calls. */
interface Subscription {
  listener: () => void
  callbacks: Set<{ run: () => void }>
}

const subscriptions = new WeakMap<AbortSignal, Subscription>()

/**
 * Calls `callback` when the signal is aborted, unless the function that is returned has been called before. Calls that
 * share a signal also share its listener, because Node warns of a leak from the eleventh listener on.
 */
export function onAbort(signal: AbortSignal | undefined, callback: () => void): () => void {
  if (!signal) return () => {}
  const subscription = subscriptions.get(signal) ?? subscribe(signal)
  const entry = { run: callback }
  subscription.callbacks.add(entry)
  return () => {
    if (!subscription.callbacks.delete(entry) || subscription.callbacks.size > 0) return
    if (subscriptions.get(signal) === subscription) subscriptions.delete(signal)
    signal.removeEventListener('abort', subscription.listener)
  }
}

function subscribe(signal: AbortSignal): Subscription {
  const callbacks: Subscription['callbacks'] = new Set()
  const listener = () => {
    subscriptions.delete(signal)
    for (const entry of [...callbacks]) entry.run()
    callbacks.clear()
  }
  const subscription = { listener, callbacks }
  signal.addEventListener('abort', listener, { once: true })
  subscriptions.set(signal, subscription)
  return subscription
}

/** `promise`, or a rejection with the signal's reason as soon as it is aborted. */
export async function raceAbort<T>(signal: AbortSignal | undefined, promise: PromiseLike<T> | T): Promise<T> {
  if (signal?.aborted) {
    // The promise is not awaited any more, and its failure must not count as unhandled.
    Promise.resolve(promise).catch(() => {})
    throw abortReason(signal)
  }
  let unsubscribe = () => {}
  const aborted = new Promise<never>((_, reject) => {
    unsubscribe = onAbort(signal, () => reject(abortReason(signal!)))
  })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    unsubscribe()
  }
}

/**
 * A signal that is aborted when either of two signals is, until `release` is called. AbortSignal.any cannot be
 * released: a signal that lives as long as the server would keep the listeners of every call.
 */
export function joinSignals(
  a: AbortSignal | undefined,
  b: AbortSignal,
): { signal: AbortSignal; release: () => void } {
  const controller = new AbortController()
  const follow = (signal: AbortSignal | undefined) =>
    onAbort(signal, () => controller.abort(abortReason(signal!)))
  if (b.aborted || a?.aborted) {
    controller.abort(abortReason(b.aborted ? b : a!))
    return { signal: controller.signal, release: () => {} }
  }
  const unsubscribe = [follow(a), follow(b)]
  return { signal: controller.signal, release: () => unsubscribe.forEach((end) => end()) }
}
