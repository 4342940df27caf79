/** A UNet of 137 million random weights, in a file. Its forwards take long enough to end a process in the middle of one. */
import { openSync, writeSync, closeSync } from 'node:fs'
import { native, type ModelSource, type UnetConfig } from '../../lib/native.js'
import { Random } from './harness.js'

export const config: UnetConfig = {
  inChannels: 4,
  outChannels: 4,
  blockChannels: [128, 256, 512, 512],
  layersPerBlock: [2, 2, 2, 2],
  downTransformerDepth: [1, 1, 1, 0],
  upTransformerDepth: [1, 1, 1, 0],
  midTransformerDepth: 1,
  heads: [8, 8, 8, 8],
  contextWidth: 768,
  normGroups: 32,
  normEps: 1e-5,
  flipSinToCos: true,
  freqShift: 0,
}

/** Writes the weights to `path` as fp16. */
export function writeLargeUnet(path: string): ModelSource {
  const random = new Random(1)
  // ±2⁻⁶…2⁻⁵. The same numbers come again and again: all that matters is their amount.
  const some = new Uint16Array(1 << 20).map(() => (random.below(2) << 15) | 0x2400 | random.below(1024))
  const chunk = Buffer.from(some.buffer)
  const file = openSync(path, 'w')
  let offset = 0
  const tensors: ModelSource['tensors'] = native()
    .requiredTensors('unet', config)
    .map(({ name, shape }) => {
      const bytes = 2 * shape.reduce((a, b) => a * b, 1)
      const entry = { name, type: 'f16' as const, shape, file: 0, offset, bytes }
      for (let left = bytes; left > 0; left -= chunk.length)
        writeSync(file, chunk, 0, Math.min(left, chunk.length))
      offset += bytes
      return entry
    })
  closeSync(file)
  return { files: [path], tensors }
}

/** The input of a forward that takes seconds. */
export function longCall() {
  const [n, side, length] = [2, 96, 77]
  return {
    latents: new Float32Array(n * config.inChannels * side * side).map((_, i) => Math.sin(i)),
    n,
    h: side,
    w: side,
    conditioning: {
      timesteps: new Float32Array(n).fill(500),
      context: new Float32Array(n * length * config.contextWidth).map((_, i) => Math.cos(i)),
      contextLength: length,
    },
  }
}
