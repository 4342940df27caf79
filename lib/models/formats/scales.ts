import type { FileHandle } from 'node:fs/promises'
import { countElements, readExactly, type StoredTensor } from './tensor-file.js'

/**
 * Files with weights in f8 have a factor for each matrix, as ComfyUI writes them: beside `layer.weight` the f32 tensor
 * `layer.scale_weight` with one element, or `layer.weight_scale` in newer files. Those that say how ComfyUI should
 * compute (`scale_input`, `input_scale`, `comfy_quant`, and the marker `scaled_fp8`) are left out.
 */
const SCALE = /^(.*\.)?(?:scale_weight|weight_scale)$/
const UNUSED = /(^|\.)(scale_input|input_scale|comfy_quant|scaled_fp8)$/

/** Gives the weights their factors, and removes the tensors that hold them. */
export async function applyScales(
  path: string,
  handle: FileHandle,
  tensors: Map<string, StoredTensor>,
): Promise<void> {
  for (const [name, tensor] of [...tensors]) {
    if (UNUSED.test(name)) tensors.delete(name)
    const match = SCALE.exec(name)
    const weight = match && tensors.get(`${match[1] ?? ''}weight`)
    if (!weight) continue
    tensors.delete(name)
    if (tensor.type !== 'f32' || countElements(tensor.shape) !== 1) {
      weight.problem = `has a scale of type ${tensor.type} and shape [${tensor.shape}], where one f32 is supported`
      continue
    }
    const scale = (await readExactly(path, handle, tensor.offset, 4)).readFloatLE()
    if (Number.isFinite(scale)) weight.scale = scale
    else weight.problem = `has the scale ${scale}, which is not a number`
  }
}
