/** `node-diffusion info` without a model: the devices of this machine. */
import { formatBytes } from '../memory.js'
import type { Engine } from './engine.js'
import type { InfoFlags } from './flags.js'
import { jsonLine, print, type Terminal } from './terminal.js'

export async function deviceInfo(
  flags: Pick<InfoFlags, 'device' | 'json'>,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const { devices, cudaUnavailable, cpu } = await engine.devices(flags.device, terminal.signal)
  if (flags.json) {
    await print(terminal, jsonLine({ devices, cudaUnavailable, cpu }))
    return
  }
  const lines = devices.map(({ device, name, memory, computeCapability, ...found }) => {
    const details =
      device === 'cpu'
        ? [`${cpu.threads} threads`, `kernels ${cpu.kernel}`]
        : [formatBytes(memory ?? 0), `compute capability ${computeCapability}`]
    if (found.productTimes !== undefined) details.push(`times of products ${found.productTimes}`)
    if (found.hopperKernels !== undefined) details.push(`Hopper's kernels ${found.hopperKernels}`)
    if (found.kernelOverlap !== undefined) details.push(`overlap of kernels ${found.kernelOverlap}`)
    return [device, [name, ...details].join(', ')]
  })
  if (cudaUnavailable !== undefined) lines.push(['cuda', `not available: ${cudaUnavailable}`])
  const width = Math.max(...lines.map(([name]) => name.length))
  await print(terminal, lines.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join(''))
}
