import { quote } from '../../quote.js'
import { badFormat } from '../formats/fail.js'
import type { StoredTensor } from '../formats/tensor-file.js'

/**
 * One of several matrices that are stored as one, [parts·rows, …]: their rows are contiguous, so nothing is copied.
 *
 * @param parts what the matrices are, in their order
 */
export function rowsOf(
  paths: readonly string[],
  tensor: StoredTensor,
  index: number,
  parts: readonly string[],
): StoredTensor {
  const [rows = 0, ...rest] = tensor.shape
  // Rows consist of whole blocks, so a share of the rows is a share of the bytes. A quantized bias may be one block.
  if (rows === 0 || rows % parts.length !== 0 || (tensor.bytes / rows) % 1 !== 0) {
    const found = `found ${tensor.type} of shape [${tensor.shape}]`
    const expected = `expected fused ${parts.slice(0, -1).join(', ')} and ${parts.at(-1)}`
    throw badFormat(paths[tensor.file], `tensor ${quote(tensor.name)}: ${expected}, ${found}`)
  }
  const bytes = tensor.bytes / parts.length
  return { ...tensor, shape: [rows / parts.length, ...rest], offset: tensor.offset + index * bytes, bytes }
}
