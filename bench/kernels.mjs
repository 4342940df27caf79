/** Runs kernel-bench, the benchmark of the engine's kernels, and builds it first where that is possible. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { runJson } from './process.mjs'

/** The path of the program, or the reason why there is none. */
function program(root) {
  if (process.env.KERNEL_BENCH) return { path: process.env.KERNEL_BENCH }
  const folder = join(root, 'build', 'cmake')
  const path = join(folder, 'kernel-bench')
  if (existsSync(join(folder, 'CMakeCache.txt'))) {
    const configured = spawnSync('cmake', ['-DND_TESTS=ON', folder], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const built = spawnSync('cmake', ['--build', folder, '--target', 'kernel-bench', '--parallel'], {
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    if (configured.status === 0 && built.status === 0) return { path }
  }
  return existsSync(path) ? { path } : { error: 'kernel-bench is not built: run `npm run build` first' }
}

/**
 * Figures of the kernel table in use: `kernels` on one thread; `peaks`, operations per second for each type that is
 * multiplied, on one thread and on all threads.
 */
export async function kernelFigures(root, { kernel, threads, everything }) {
  const { path, error } = program(root)
  if (error) return { error }
  const run = async (...args) => {
    const { rows, status } = await runJson(path, ['--json', '--table', kernel, ...args])
    if (status !== 0) throw new Error(`kernel-bench failed, status ${status}`)
    return rows
  }
  const peaks = (rows) =>
    Object.fromEntries(rows.filter((row) => row.peak).map((row) => [row.compute, row.peak]))
  try {
    const rows = await run(...(everything ? [] : ['no such kernel']))
    const all = threads > 1 ? await run('--threads', String(threads), 'no such kernel') : rows
    return { kernels: rows.filter((row) => row.name), peaks: peaks(rows), peaksAllThreads: peaks(all) }
  } catch (failure) {
    return { error: String(failure.message) }
  }
}
