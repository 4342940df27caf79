/**
 * Finds calls that would wait for themselves: a run waits for the promise of its `onStep`, which waits for another run of
 * the same pipeline, whose turn comes when the first one has ended.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { raceAbort } from '../abort.js'
import { DiffusionError } from '../errors.js'

/** A callback that is running, or whose promise is awaited. */
interface Callback {
  /** Whose run waits for it. */
  readonly owner: object
  /** The callback in which the run was started, if it was. */
  readonly parent: Callback | undefined
  state: 'running' | 'awaited' | 'ended'
  /** Calls of the owner that were made while it was running. */
  readonly calls: Set<AbortController>
}

const current = new AsyncLocalStorage<Callback>()

/** Calls `callback` and waits for the promise that it returns, if it does. */
export async function runCallback(
  owner: object,
  signal: AbortSignal,
  callback: () => unknown,
): Promise<void> {
  const entry: Callback = { owner, parent: current.getStore(), state: 'running', calls: new Set() }
  try {
    const result = current.run(entry, callback)
    if (!isThenable(result)) return
    entry.state = 'awaited'
    for (const call of entry.calls) call.abort(deadlock())
    await raceAbort(signal, result)
  } finally {
    entry.state = 'ended'
    entry.calls.clear()
  }
}

/**
 * A signal that is aborted when it turns out that a call of `owner`, made now, would wait for itself; undefined outside
 * of callbacks. A callback that returns no promise may start further runs: nobody waits for it.
 *
 * @throws {DiffusionError} DEADLOCK: the call would wait for itself
 */
export function deadlockSignal(owner: object): { signal: AbortSignal; release: () => void } | undefined {
  const own: Callback[] = []
  for (let entry = current.getStore(); entry; entry = entry.parent)
    if (entry.owner === owner && entry.state !== 'ended') own.push(entry)
  if (own.some(({ state }) => state === 'awaited')) throw deadlock()
  if (own.length === 0) return undefined
  const controller = new AbortController()
  for (const { calls } of own) calls.add(controller)
  return {
    signal: controller.signal,
    release: () => {
      for (const { calls } of own) calls.delete(controller)
    },
  }
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === 'object' && value !== null && 'then' in value && typeof value.then === 'function'
}

function deadlock(): DiffusionError {
  return new DiffusionError(
    'DEADLOCK',
    'This call waits for a run of the same pipeline, which waits for the onStep in which it was made. ' +
      'Start it after that run, or return nothing from onStep',
  )
}
