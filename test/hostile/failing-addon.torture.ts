/**
 * The n-th allocation, read or thread start of the addon fails, and all after it, while a model is loaded, used and freed. A
 * library that is loaded before all others replaces malloc's callers, pread and pthread_create for the addon alone
 * (preload/failing.cpp). Each failure is a DiffusionError, the next try succeeds, and draws the same picture.
 */
import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { packageRoot } from '../../lib/package-root.js'
import { emptyResult, longestDelay, type Delay, type Result } from './harness.js'

export const name = 'failing allocations, reads and thread starts'
export const counts = { small: 60, full: 1500 }

const preload = join(packageRoot(), 'build', 'Release', 'libfailing-preload.so')

/** What the child (failing-addon-process.ts) reports. */
export type Report =
  /** It is about to try case `id`. */
  | { kind: 'case'; id: number }
  | { kind: 'failure'; text: string }
  /** It has tried all. */
  | { kind: 'end'; leaked: number; delay: Delay }

/** Runs the cases from `first` on in a process of their own; resolves to the case during which it died, if it did. */
function runChild(first: number, count: number, seed: number, result: Result): Promise<number | undefined> {
  return new Promise((resolve) => {
    const program = fileURLToPath(new URL('failing-addon-process.js', import.meta.url))
    const child = fork(program, [preload, String(first), String(count), String(seed)], {
      execArgv: ['--expose-gc'],
      // Without workers of libuv's pool in between, the order of allocations is always the same.
      env: { ...process.env, LD_PRELOAD: preload },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    let current = first
    let ended = false
    child.on('message', (message) => {
      const report = message as Report
      if (report.kind === 'case') {
        current = report.id
        result.tried++
      } else if (report.kind === 'failure') {
        result.failures.push(report.text)
      } else {
        ended = true
        result.leaked += report.leaked
        result.delay = longestDelay(result.delay, report.delay)
      }
    })
    child.on('close', (status, signal) => {
      if (ended && status === 0) return resolve(undefined)
      result.crashed++
      result.failures.push(
        `case ${current} of ${count}, seed ${seed}: ended with ${signal ?? `status ${status}`}`,
      )
      resolve(current)
    })
  })
}

export async function run({ count, seed }: { count: number; seed: number }): Promise<Result> {
  const result = emptyResult()
  // The library needs glibc's way to replace functions.
  if (process.platform !== 'linux') return { ...result, tried: count }
  if (!existsSync(preload))
    throw new Error(`${preload} has not been built: npm run torture and npm run test:ts do`)
  let next: number | undefined = 0
  while (next !== undefined && next < count) {
    const died: number | undefined = await runChild(next, count, seed, result)
    next = died === undefined ? undefined : died + 1
  }
  return result
}
