/** Arithmetic on latents and contexts, which are small enough for JavaScript. */
import { RemoteTensor } from '../remote-tensor.js'
import type { Tensor } from '../types.js'

/** A tensor of zeros. */
export function zeros(shape: readonly number[]): Tensor {
  return { data: new Float32Array(shape.reduce((a, b) => a * b, 1)), shape: [...shape] }
}

/** Multiplies every element by `factor`. */
export function scale({ data, shape }: Tensor, factor: number): Tensor {
  return { data: factor === 1 ? data : data.map((x) => x * factor), shape }
}

/** Copies arrays one after the other into `out`, which has room for all. */
export function fill<Numbers extends Float32Array | Int32Array>(
  out: Numbers,
  parts: Iterable<Numbers>,
): Numbers {
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

/** Concatenates along the first dimension; the other dimensions must agree. */
export function stack(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 1) return tensors[0]
  const out = zeros([tensors.reduce((n, { shape }) => n + shape[0], 0), ...tensors[0].shape.slice(1)])
  fill(
    out.data,
    tensors.map(({ data }) => data),
  )
  return out
}

/** The batch `times` times, as the UNet's input has it with guidance. */
export function repeatBatch(tensor: Tensor, times: number): Tensor {
  if (tensor instanceof RemoteTensor) return tensor.repeat(times)
  return stack(Array.from({ length: times }, () => tensor))
}

/** Rows `begin`…`end` of the first dimension, sharing memory with the tensor. */
export function rows({ data, shape }: Tensor, begin: number, end = begin + 1): Tensor {
  const size = data.length / shape[0]
  return { data: data.subarray(begin * size, end * size), shape: [end - begin, ...shape.slice(1)] }
}

/** Repeats each row `times` times: a, a, b, b. */
export function repeatRows(tensor: Tensor, times: number): Tensor {
  if (times === 1) return tensor
  const list = Array.from({ length: tensor.shape[0] * times }, (_, i) => rows(tensor, Math.floor(i / times)))
  return stack(list)
}

/** Repeats a batch of one `n` times; other batches stay what they are. */
export function broadcastRows(tensor: Tensor, n: number): Tensor {
  return tensor.shape[0] === 1 ? repeatRows(tensor, n) : tensor
}

/** The batch for latents of this shape, with a batch or channel of one for each of theirs. */
export function broadcast(tensor: Tensor, shape: readonly number[]): Tensor {
  const [n, c] = shape
  const { data, shape: given } = broadcastRows(tensor, n)
  if (given[1] === c) return { data, shape: given }
  const [, , h, w] = given
  return repeatRows({ data, shape: [n, 1, h, w] }, c)
}

/** Concatenates tensors [n, length, width] along their width. */
export function concatWidths(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 1) return tensors[0]
  const [n, length] = tensors[0].shape
  const width = tensors.reduce((sum, { shape }) => sum + shape[2], 0)
  const out = zeros([n, length, width])
  for (let row = 0, at = 0; row < n * length; row++) {
    for (const { data, shape } of tensors) {
      out.data.set(data.subarray(row * shape[2], (row + 1) * shape[2]), at)
      at += shape[2]
    }
  }
  return out
}

/** Concatenates NCHW tensors along their channels; a batch of one is repeated for every row. */
export function concatChannels(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 1) return tensors[0]
  const [n, , ...rest] = tensors[0].shape
  const parts = tensors.map((tensor) => broadcastRows(tensor, n))
  const out = zeros([n, parts.reduce((c, { shape }) => c + shape[1], 0), ...rest])
  let at = 0
  for (let i = 0; i < n; i++) {
    for (const part of parts) {
      const { data } = rows(part, i)
      out.data.set(data, at)
      at += data.length
    }
  }
  return out
}

/** (1 − mask)·outside + mask·inside, where `mask` has one channel, and one row or one for each image. */
export function blend(outside: Tensor, inside: Tensor, mask: Tensor): Tensor {
  if (inside instanceof RemoteTensor) return inside.blend(outside, mask)
  const [n, c] = inside.shape
  const plane = inside.data.length / (n * c)
  const out = zeros(inside.shape)
  for (let channel = 0; channel < n * c; channel++) {
    const maskStart = mask.shape[0] === 1 ? 0 : Math.floor(channel / c) * plane
    for (let i = 0, at = channel * plane; i < plane; i++, at++) {
      const m = mask.data[maskStart + i]
      out.data[at] = (1 - m) * outside.data[at] + m * inside.data[at]
    }
  }
  return out
}
