import type { Tensor } from './types.js'

/**
 * A tensor whose elements are in a device's memory, where the arithmetic of schedulers and of guidance is done with it.
 * It never changes. Only the denoising loop has such tensors, and nobody outside of it sees one.
 */
export abstract class RemoteTensor implements Tensor {
  constructor(readonly shape: number[]) {}

  /** Σ coefficient·tensor, of tensors anywhere. */
  abstract combine(terms: readonly (readonly [number, Tensor])[]): RemoteTensor
  /** Every element within −limit…limit. */
  abstract clamp(limit: number): RemoteTensor
  /** blend() of this inside the mask and of another tensor outside of it. */
  abstract blend(outside: Tensor, mask: Tensor): RemoteTensor
  /** guide() of a prediction. */
  abstract guide(scale: number, rescale: number): RemoteTensor
  /** guideEdit() of a prediction. */
  abstract guideEdit(scale: number, imageScale: number, rescale: number): RemoteTensor
  /** The batch `times` times, as the input of a prediction. */
  abstract repeat(times: number): RemoteTensor

  get data(): Float32Array {
    throw new TypeError('Expected a tensor in this process’s memory but received one of a device')
  }
}
