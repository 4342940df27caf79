import { RemoteTensor } from '../remote-tensor.js'
import type { Tensor } from '../types.js'

/** A coefficient and the tensor that it multiplies. */
export type Term = readonly [number, Tensor]

/** Σ coefficient·tensor as a new tensor, summed in double precision and stored as float32. */
export function combine(...terms: Term[]): Tensor {
  for (const [, tensor] of terms) if (tensor instanceof RemoteTensor) return tensor.combine(terms)
  const { shape } = terms[0][1]
  const out = new Float32Array(terms[0][1].data.length)
  const [[a, { data: x }], second, third, ...more] = terms
  if (!second) {
    for (let i = 0; i < out.length; i++) out[i] = a * x[i]
  } else if (!third) {
    const [b, { data: y }] = second
    for (let i = 0; i < out.length; i++) out[i] = a * x[i] + b * y[i]
  } else if (more.length === 0) {
    const [[b, { data: y }], [c, { data: z }]] = [second, third]
    for (let i = 0; i < out.length; i++) out[i] = a * x[i] + b * y[i] + c * z[i]
  } else {
    const sums = new Float64Array(out.length)
    for (const [coefficient, { data }] of terms) {
      for (let i = 0; i < sums.length; i++) sums[i] += coefficient * data[i]
    }
    out.set(sums)
  }
  return { data: out, shape: [...shape] }
}

export function copy(tensor: Tensor): Tensor {
  if (tensor instanceof RemoteTensor) return tensor
  return { data: tensor.data.slice(), shape: [...tensor.shape] }
}

/** The number of elements. */
export function sizeOf({ shape }: Tensor): number {
  return shape.reduce((product, size) => product * size, 1)
}

/** Clamps every element to −limit…limit, in place if it can. The tensor must not be in use elsewhere. */
export function clamp(tensor: Tensor, limit: number): Tensor {
  if (tensor instanceof RemoteTensor) return tensor.clamp(limit)
  const { data } = tensor
  for (let i = 0; i < data.length; i++) data[i] = Math.min(Math.max(data[i], -limit), limit)
  return tensor
}
