import { totalmem } from 'node:os'
import { DiffusionError } from './errors.js'

/** Bytes that this process may use: the container's limit if there is one, or else the machine's memory. */
export function memoryLimit(): number {
  const constrained = process.constrainedMemory?.() ?? 0
  return constrained > 0 && constrained < totalmem() ? constrained : totalmem()
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
export function requireDeviceMemory(bytes: number, what: string, free: number): void {
  if (bytes <= free) return
  throw new DiffusionError(
    'OUT_OF_MEMORY',
    `${what} would need ${formatBytes(bytes)} of GPU memory beside the model, of which ${formatBytes(free)} are free. ` +
      'Possible solutions: a smaller width, height or batchSize, vaeTiling, a quantized model, or another device',
  )
}
