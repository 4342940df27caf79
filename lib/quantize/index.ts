import { throwIfAborted } from '../abort.js'
import { checkObject, checkSignal } from '../check.js'
import { localPath } from '../hub/index.js'
import type { GgmlTensorType } from '../native.js'
import { openModel } from '../models/index.js'
import { checkOutput, checkOutputPath } from './output.js'
import { planTensors } from './plan.js'
import { describePlan, type QuantizeReport } from './report.js'
import { checkTensorType, parseRules } from './rules.js'
import { checkProgress, writeModel, type QuantizeProgress } from './write.js'

export type { Group } from './groups.js'
export type { QuantizedGroup, QuantizeReport, TypeFallback } from './report.js'
export type { QuantizeProgress } from './write.js'
export { mergeModel, type MergeOptions, type MergeReport } from './merge.js'

export interface QuantizeOptions {
  /** The type of most weights. */
  type: GgmlTensorType
  /**
   * Exceptions as `pattern=type`, separated by commas: `unet.*attn*=q8_0,*.conv_in.*=f16`. Patterns match whole names
   * such as `unet.down_blocks.0.resnets.0.conv1.weight`; * stands for any characters and ? for one. The first match
   * counts. By default, the autoencoder, the embeddings, the UNet's first and last convolutions and its time embedding
   * become f16, the UNet's highest-resolution level at least q8_0 (unless it is stored in fewer bits already), and
   * biases, norms and small tensors f32.
   */
  rules?: string
  /** Aborts within 100 ms; no partial file is left behind. */
  signal?: AbortSignal
  /** Called before each chunk of a tensor is converted, and at the end. */
  onProgress?(progress: QuantizeProgress): void
}

const KEYS = ['type', 'rules', 'signal', 'onProgress']

/**
 * Quantizes a model and writes it as one GGUF file with all of its components, tokenizer and schedule. Convolution
 * kernels are stored with their input channels innermost, so that blocks run along them. Weights are read and written
 * in chunks: memory stays below a few hundred megabytes. The file appears under its name when it is complete.
 *
 * @param input a model as openModel() reads it, or one on the Hugging Face Hub: `hf:owner/name`
 * @param output the GGUF file to write
 * @throws {TypeError} an option of the wrong type, or one that does not exist
 * @throws {RangeError} an option out of bounds, or an output that is a file of the input
 * @throws {DiffusionError} as openModel(); IO: the file cannot be written; MODEL_FORMAT: the type cannot represent a
 *   weight (NaN, infinity)
 */
export async function quantizeModel(
  input: string,
  output: string,
  options: QuantizeOptions,
): Promise<QuantizeReport> {
  checkOutputPath(output)
  const given = checkObject(options, 'options', KEYS)
  const type = checkTensorType(given.type, 'type')
  const rules = parseRules(given.rules)
  const signal = checkSignal(given.signal)
  const onProgress = checkProgress(given.onProgress)
  throwIfAborted(signal)

  const model = await openModel(await localPath(input, signal))
  await checkOutput(model, output)
  const plan = planTensors(model, type, rules)
  const { losses, fileBytes } = await writeModel(model, output, plan, { signal, onProgress })
  return { output, type, ...describePlan(plan, losses), fileBytes }
}
