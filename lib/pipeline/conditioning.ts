import type { Tensor } from '../types.js'
import { rows, stack } from './tensors.js'

/**
 * What the UNet is conditioned on besides the latents and the timestep: one object from the encoded prompts to the
 * denoising loop. Each tensor has one row for each image of the batch.
 */
export interface Conditioning {
  /** What cross-attention attends to, of shape [n, length, contextWidth]. */
  context: Tensor
  /** SDXL: the pooled text, [n, pooledWidth]. */
  pooled?: Tensor
  /** SDXL: sizes, crop and score, [n, count]. */
  timeIds?: Tensor
  /** LCM: the guidance scale that the model imitates, [n, 1]. */
  guidance?: Tensor
  /** Classes or levels of noise [n, 1], or vectors [n, width]. */
  classes?: Tensor
  /** ×2 latent upscaler: noise level and pooled text, [n, conditionWidth]. */
  timestepCond?: Tensor
}

/** The conditions that are embedded together with the timestep. */
export type EmbeddedConditioning = Omit<Conditioning, 'context'>

export const embeddedKeys = [
  'pooled',
  'timeIds',
  'guidance',
  'classes',
  'timestepCond',
] as const satisfies (keyof Conditioning)[]

/** Rows `begin`…`end` of every tensor, sharing memory with it. */
export function conditioningRows(conditioning: Conditioning, begin: number, end: number): Conditioning {
  return mapConditioning(conditioning, (tensor) => rows(tensor, begin, end))
}

/** The rows of several conditionings of the same kind, one after the other. */
export function stackConditioning(list: readonly Conditioning[]): Conditioning {
  return mapConditioning(list[0], (_, key) => stack(list.map((conditioning) => conditioning[key]!)))
}

function mapConditioning(
  conditioning: Conditioning,
  map: (tensor: Tensor, key: keyof Conditioning) => Tensor,
): Conditioning {
  const mapped: Conditioning = { context: map(conditioning.context, 'context') }
  for (const key of embeddedKeys) {
    const tensor = conditioning[key]
    if (tensor) mapped[key] = map(tensor, key)
  }
  return mapped
}
