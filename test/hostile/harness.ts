/**
 * What the harnesses for hostile use have in common. A harness is a module `test/hostile/NAME.torture.ts` that exports a
 * {@link Harness}. torture.test.ts runs a few cases of each, `npm run torture` all of them; each runs in a process of its own.
 */
import { closeSync, openSync, readSync } from 'node:fs'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as wait } from 'node:timers/promises'

export interface Harness {
  /** In the table and on the command line. */
  name: string
  /** How many cases the test and `npm run torture` run. */
  counts: { small: number; full: number }
  /** Runs `count` cases, which depend on the seed alone. */
  run(options: { count: number; seed: number }): Promise<Result>
}

export interface Result {
  /** Cases that ran. */
  tried: number
  /** Cases that ended a child process or never settled. The end of the harness's own process is added to these. */
  crashed: number
  /** Bytes that are still held after the run and were not before; see {@link leakedBytes}. */
  leaked: number
  /** Milliseconds: the longest time that the event loop did not run because of the package; see {@link DelayWatch}. */
  worstDelay: number
  /** Milliseconds of CPU time: the longest turn of the event loop, 0 if it was not measured; see {@link DelayWatch}. */
  longestTurn: number
  /** One line for each case with a wrong answer, enough to repeat it. */
  failures: string[]
}

/** A generator whose sequence depends on the seed alone (mulberry32). */
export class Random {
  #state: number
  constructor(seed: number) {
    this.#state = seed | 0
  }
  /** In [0, 1). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  /** An integer in [0, n). */
  below(n: number): number {
    return Math.floor(this.next() * n)
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]
  }
}

/**
 * Measures for how long the event loop did not run, and the CPU time that its thread spent meanwhile. The time that passes
 * includes that of other processes on a busy machine; CPU time does not, but lacks waiting for locks and for the disk. What a
 * harness itself computes counts as well, so pause the watch there.
 */
export class DelayWatch {
  readonly #histogram = monitorEventLoopDelay({ resolution: 1 })
  #worst = 0
  #longest = 0
  #timer: NodeJS.Timeout | undefined
  start(): void {
    this.#histogram.reset()
    this.#histogram.enable()
    let [cpu, time] = [threadTime(), performance.now()]
    // In a short run, the histogram may have recorded nothing.
    this.#timer = setInterval(() => {
      const [nextCpu, nextTime] = [threadTime(), performance.now()]
      this.#longest = Math.max(this.#longest, nextCpu - cpu)
      this.#worst = Math.max(this.#worst, nextTime - time - 1)
      ;[cpu, time] = [nextCpu, nextTime]
    }, 1)
  }
  pause(): void {
    clearInterval(this.#timer)
    this.#histogram.disable()
    this.#worst = Math.max(this.#worst, this.#histogram.max / 1e6)
  }
  /** Milliseconds; 0 if the watch never ran. */
  get worst(): number {
    return this.#worst
  }
  /** Milliseconds of CPU time; 0 if the watch never ran, or on another system than Linux. */
  get longest(): number {
    return this.#longest
  }
}

const schedule = process.platform === 'linux' ? openSync('/proc/self/schedstat', 'r') : undefined
if (schedule !== undefined) process.on('exit', () => closeSync(schedule))
const read = Buffer.alloc(64)

/** Milliseconds of CPU time of the main thread. */
function threadTime(): number {
  if (schedule === undefined) return 0
  const length = readSync(schedule, read, 0, read.length, 0)
  return parseInt(read.toString('latin1', 0, length), 10) / 1e6
}

/** Resident memory varies by so much without a leak: the collector's and the allocator's free lists. */
const noise = 24 << 20

/**
 * Bytes of resident memory after a garbage collection, for {@link leakedBytes}. Take it after a first round, which leaves what
 * is kept for the life of the process.
 */
export async function heldBytes(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await wait(20)
  }
  return process.memoryUsage().rss
}

/**
 * By how much memory has grown from the first to the last of several measurements at equal distances, if by more than it
 * varies. What grows only once is no leak: the least growth between two of them counts.
 */
export function steadyGrowth(held: readonly number[]): number {
  const steps = held.slice(1).map((bytes, i) => bytes - held[i])
  return leakedBytes(0, Math.min(...steps) * steps.length)
}

/** By how much memory has grown, if by more than it varies. */
export function leakedBytes(before: number, after: number): number {
  return after - before > noise ? after - before : 0
}

/** A promise's result or error; undefined if it does not settle within `milliseconds`. */
export async function settled<T>(
  promise: Promise<T>,
  milliseconds: number,
): Promise<{ value: T } | { error: unknown } | undefined> {
  const timer = new AbortController()
  const late = wait(milliseconds, undefined, { signal: timer.signal }).catch(() => undefined)
  const outcome = promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  )
  try {
    return await Promise.race([outcome, late])
  } finally {
    timer.abort()
  }
}
