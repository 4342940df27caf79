/**
 * What the harnesses for hostile use have in common. A harness is a module `test/hostile/NAME.torture.ts` that exports a
 * {@link Harness}. torture.test.ts runs a few cases of each, `npm run torture` all of them; each runs in a process of its own.
 */
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs'
import { createHistogram } from 'node:perf_hooks'
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
  /** For how long the event loop did not run because of the package. */
  delay: Delay
  /** One line for each case with a wrong answer, enough to repeat it. */
  failures: string[]
}

/** Milliseconds for which the event loop did not run, all 0 if they were not measured; see {@link DelayWatch}. */
export interface Delay {
  /** 99 of 100 delays are below it. */
  p99: number
  worst: number
  /** CPU time of the longest turn. */
  cpu: number
}

export const noDelay: Delay = { p99: 0, worst: 0, cpu: 0 }

/** The larger of each of two delays. */
export function longestDelay(a: Delay, b: Delay): Delay {
  return { p99: Math.max(a.p99, b.p99), worst: Math.max(a.worst, b.worst), cpu: Math.max(a.cpu, b.cpu) }
}

/** The result of a harness that has run nothing yet. */
export function emptyResult(): Result {
  return { tried: 0, crashed: 0, leaked: 0, delay: noDelay, failures: [] }
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
  readonly #delays = createHistogram()
  #longest = 0
  #timer: NodeJS.Timeout | undefined
  #cpu = 0
  #time = 0
  start(): void {
    this.#cpu = threadTime()
    this.#time = performance.now()
    this.#timer = setInterval(() => this.#turn(), 1)
  }
  pause(): void {
    clearInterval(this.#timer)
    this.#turn()
  }
  /** Not by monitorEventLoopDelay(), which counts a pause as a delay. */
  #turn(): void {
    const [cpu, time] = [threadTime(), performance.now()]
    this.#longest = Math.max(this.#longest, cpu - this.#cpu)
    // Nanoseconds; the timer itself waits a millisecond.
    this.#delays.record(Math.max(1, Math.round((time - this.#time - 1) * 1e6)))
    this.#cpu = cpu
    this.#time = time
  }
  /** CPU time is 0 on another system than Linux. */
  get delay(): Delay {
    if (this.#delays.count === 0) return noDelay
    return { p99: this.#delays.percentile(99) / 1e6, worst: this.#delays.max / 1e6, cpu: this.#longest }
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
const noise = 12 << 20

/** Bytes of resident memory after a garbage collection, for {@link leakedBytes}. */
export async function heldBytes(): Promise<number> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc?.()
    await wait(20)
  }
  return process.memoryUsage().rss
}

/**
 * By how much memory has grown, if by more than it varies. Of measurements at equal distances, the first quarter is left out,
 * because by its end what is kept for the life of the process has been allocated; then the least of the later half counts
 * against the least of the earlier one. Fewer than four measurements tell nothing.
 */
export function leakedBytes(held: readonly number[]): number {
  if (held.length < 4) return 0
  const settled = held.slice(Math.floor(held.length / 4))
  const middle = Math.ceil(settled.length / 2)
  const growth = Math.min(...settled.slice(middle)) - Math.min(...settled.slice(0, middle))
  return growth > noise ? growth : 0
}

/** Linux forgets the peak of resident memory when this file is written to. */
const CLEAR_PEAK = '5'

/**
 * By how much the peak of resident memory grows in `count` repetitions of `work`, divided by `count`: what one repetition
 * allocates for good, or, if it allocates and frees, a part of that. Of four rounds, the second smallest growth counts: the
 * collector's heap varies, and what other work has freed may be used first or go back to the system meanwhile. Two rounds
 * below `enough` are enough. Where the system does not tell peaks, resident memory after the work counts.
 */
export async function growthOfEach(count: number, work: () => unknown, enough: number): Promise<number> {
  const repeat = async () => {
    for (let i = 0; i < count; i++) await work()
  }
  await repeat()
  const grown: number[] = []
  while (grown.length < 4 && grown.filter((bytes) => bytes < enough).length < 2) {
    const before = await heldBytes()
    const told = clearPeak()
    await repeat()
    const after = told ? peakBytes() : process.memoryUsage.rss()
    grown.push((after - before) / count)
  }
  return grown.sort((a, b) => a - b)[1]
}

function clearPeak(): boolean {
  try {
    writeFileSync('/proc/self/clear_refs', CLEAR_PEAK)
    return true
  } catch {
    return false
  }
}

function peakBytes(): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))
  return Number(line?.[1]) * 1024
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
