import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import { dirname, join } from 'node:path'
import { DiffusionError } from './errors.js'
import type { DeviceName } from './types.js'

/** Milliseconds for which a limit counts that has been read: reading it takes some files. */
const LIMIT_HOLDS = 1000

let known: { limit: number; until: number } | undefined

/** Bytes that this process may use: the container's limit if there is one, or else the machine's memory. */
export function memoryLimit(): number {
  const now = performance.now()
  if (known && now < known.until) return known.limit
  const limits = [totalmem(), process.constrainedMemory?.() ?? 0, cgroupLimit()]
  const limit = Math.min(...limits.filter((limit) => limit > 0))
  known = { limit, until: now + LIMIT_HOLDS }
  return limit
}

/**
 * The lowest memory limit of the process's control group and of the groups around it (Linux, versions 1 and 2); 0 if
 * there is none. Node.js knows the limit of the innermost group only.
 *
 * @param root the file system, for tests
 */
export function cgroupLimit(root = '/'): number {
  if (process.platform !== 'linux') return 0
  const groups = readText(join(root, 'proc/self/cgroup')).split('\n')
  const limits: number[] = []
  for (const line of groups) {
    // `0::/path` in version 2, `4:memory:/path` in version 1.
    const [, controllers, ...rest] = line.split(':')
    const path = rest.join(':')
    const second = controllers === ''
    if (!second && !controllers?.split(',').includes('memory')) continue
    const mount = join(root, second ? 'sys/fs/cgroup' : 'sys/fs/cgroup/memory')
    const names = second ? ['memory.max', 'memory.high'] : ['memory.limit_in_bytes']
    // In a container, the path may be that of the host, which is not there: the mount itself is the group then.
    for (let group = path; ; group = dirname(group)) {
      for (const name of names) {
        const limit = Number(readText(join(mount, group, name)))
        if (Number.isFinite(limit) && limit > 0) limits.push(limit)
      }
      if (group === '/' || group === '.' || group === '') break
    }
  }
  return limits.length > 0 ? Math.min(...limits) : 0
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return ''
  }
}

/** '3.2 GiB', '640 MiB'. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB']
  let unit = 0
  while (bytes >= 1024 && unit < units.length - 1) {
    bytes /= 1024
    unit++
  }
  return `${unit < 2 ? Math.ceil(bytes) : bytes.toFixed(1)} ${units[unit]}`
}

/** Refuses work that does not fit into memory, before anything is allocated for it. */
export function requireMemory(bytes: number, what: string, limit = memoryLimit()): void {
  if (bytes <= limit) return
  throw new DiffusionError(
    'OUT_OF_MEMORY',
    `${what} would need ${formatBytes(bytes)} of memory, but this process may use ${formatBytes(limit)}. ` +
      'Possible solutions: a smaller width, height or batchSize, or a quantized model',
  )
}

/** The same for the memory of a GPU, of which `free` bytes are left. */
export function requireDeviceMemory(
  bytes: number,
  what: string,
  { device, free }: { device: DeviceName; free: number },
): void {
  if (bytes <= free) return
  throw new DiffusionError(
    'OUT_OF_MEMORY',
    `${what} would need ${formatBytes(bytes)} of GPU memory beside the model, of which ${formatBytes(free)} are free on ` +
      `${device}. Possible solutions: a smaller width, height or batchSize, vaeTiling, a quantized model, or device: 'cpu' of load()`,
  )
}

/** Refuses to load weights that do not fit into memory beside what this process has there already. */
export function requireMemoryForWeights(
  bytes: number,
  path: string,
  limit = memoryLimit(),
  used = process.memoryUsage.rss(),
): void {
  if (bytes <= limit - used) return
  throw new DiffusionError(
    'OUT_OF_MEMORY',
    `${path}: the weights would need at least ${formatBytes(bytes)} of memory, but this process may use ` +
      `${formatBytes(limit)}, of which ${formatBytes(used)} are in use. Possible solutions: lowMemory: true, or a quantized model`,
  )
}
