import { countElements, type StoredTensor } from '../tensor-file.js'
import type { PickledTensor } from './values.js'

/** Where a storage begins in the file, and why it cannot be read there. */
export interface Place {
  offset: number
  problem?: string
}

/** Describes a view of a storage as the bytes of the file. The engine reads elements in the order of the file. */
export function storedTensor(name: string, tensor: PickledTensor, place: Place, file: number): StoredTensor {
  const { shape, strides, type, offset } = tensor
  const stored: StoredTensor = {
    name,
    type: type.name,
    shape,
    file,
    offset: place.offset + offset * type.bytes,
    bytes: countElements(shape)! * type.bytes,
  }
  if (place.problem !== undefined) return { ...stored, problem: place.problem }
  if (isDense(shape, strides, [...shape.keys()])) return stored
  // torch's memory format for convolutions: (O, kh, kw, I).
  if (shape.length === 4 && isDense(shape, strides, [0, 2, 3, 1])) return { ...stored, channelsLast: true }
  return {
    ...stored,
    problem: `is a view of strides [${strides}] that is not contiguous: save it again after .contiguous()`,
  }
}

/** Whether the elements follow each other with these dimensions from outermost to innermost. */
function isDense(shape: readonly number[], strides: readonly number[], order: readonly number[]): boolean {
  let stride = 1
  for (const dimension of [...order].reverse()) {
    if (shape[dimension] !== 1 && strides[dimension] !== stride) return shape.includes(0)
    stride *= shape[dimension]
  }
  return true
}
