/** Finds the harnesses and runs them, each in a process of its own: a crash counts, and ends nothing else. */
import { fork } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { emptyResult, type Harness, type Result } from './harness.js'

const here = new URL('.', import.meta.url)

export interface FoundHarness extends Pick<Harness, 'name' | 'counts'> {
  /** URL of the compiled module. */
  module: string
}

export async function findHarnesses(): Promise<FoundHarness[]> {
  const files = readdirSync(here).filter((file) => file.endsWith('.torture.js'))
  return Promise.all(
    files.map(async (file) => {
      const module = new URL(file, here).href
      const { name, counts } = (await import(module)) as Harness
      return { name, counts, module }
    }),
  )
}

export interface RunOptions {
  count: number
  seed: number
  /** Milliseconds after which the harness counts as hung. */
  timeout: number
}

/** Runs a harness. Its process that ends early, or hangs, is one crash more and a line in `failures`. */
export function runHarness({ module }: FoundHarness, { count, seed, timeout }: RunOptions): Promise<Result> {
  return new Promise((resolve) => {
    const child = fork(
      fileURLToPath(new URL('harness-process.js', here)),
      [module, String(count), String(seed)],
      {
        execArgv: ['--expose-gc'],
        // With one arena, and memory that goes back at once, resident memory follows what is held.
        env: { ...process.env, MALLOC_ARENA_MAX: '1', MALLOC_TRIM_THRESHOLD_: '65536' },
        stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      },
    )
    let result: Result | undefined
    let hung = false
    let said = ''
    child.stderr!.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)))
    child.on('message', (message) => (result = message as Result))
    const timer = setTimeout(() => {
      hung = true
      child.kill('SIGKILL')
    }, timeout)
    child.on('close', (status, signal) => {
      clearTimeout(timer)
      if (result && status === 0) return resolve(result)
      const how = hung
        ? `did not end within ${timeout / 1000} s`
        : status === 0
          ? 'ended without a result: a promise never settled'
          : `ended with ${signal ?? `status ${status}`}`
      const partial = result ?? emptyResult()
      const failures = [
        ...partial.failures,
        `The process (count ${count}, seed ${seed}) ${how}. ${said.trim()}`,
      ]
      resolve({ ...partial, crashed: partial.crashed + 1, failures })
    })
  })
}
