import type { Tensor } from '../types.js'
import { rows } from './tensors.js'

/**
 * What the UNet is conditioned on besides the latents and the timestep: one object from the encoded prompts to the
 * denoising loop. Each tensor has one row for each image of the batch.
 */
export interface Conditioning {
  /** What cross-attention attends to, of shape [n, length, contextWidth]. */
  context: Tensor
}

/** Rows `begin`…`end` of every tensor, sharing memory with it. */
export function conditioningRows({ context }: Conditioning, begin: number, end: number): Conditioning {
  return { context: rows(context, begin, end) }
}
