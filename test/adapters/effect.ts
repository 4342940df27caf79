/** What the controls of a call change in its image. */
import type { DiffusionPipeline, GenerateOptions } from '../../lib/index.js'

/** The first image with the controls less the one without, in levels of 0…255. */
export async function effectOf(pipe: DiffusionPipeline, options: GenerateOptions): Promise<Float32Array> {
  const drawn = (await pipe.generate(options)).images[0].data
  const plain = (await pipe.generate({ ...options, controls: [] })).images[0].data
  return Float32Array.from(drawn, (level, i) => level - plain[i])
}

/** 1: two effects have the same direction. */
export function cosine(a: Float32Array, b: Float32Array): number {
  const dot = (x: Float32Array, y: Float32Array) => x.reduce((sum, value, i) => sum + value * y[i], 0)
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))
}
