import { throwIfAborted } from '../abort.js'
import { applyLora, type AdapterReport } from '../adapters/index.js'
import { checkObject, checkSignal, expectation } from '../check.js'
import { localPath } from '../hub/index.js'
import { openModel } from '../models/index.js'
import type { GgmlTensorType } from '../native.js'
import { checkLoras, type LoraOption } from '../options/index.js'
import { checkOutput, checkOutputPath } from './output.js'
import { planMerged, planTensors } from './plan.js'
import { describePlan, type QuantizeReport } from './report.js'
import { checkTensorType, parseRules } from './rules.js'
import { checkProgress, writeModel, type QuantizeProgress } from './write.js'

export interface MergeOptions {
  /** The LoRA files, as for load(). */
  loras: LoraOption[]
  /** The type of most weights, as for quantizeModel(). Default: every tensor keeps the type that it is stored in. */
  type?: GgmlTensorType
  /** Exceptions, as for quantizeModel(). */
  rules?: string
  /** Aborts within 100 ms; no partial file is left behind. */
  signal?: AbortSignal
  /** Called before each chunk of a tensor is converted, and at the end. */
  onProgress?(progress: QuantizeProgress): void
}

/** The report of quantizeModel(), and what each file changed. */
export interface MergeReport extends Omit<QuantizeReport, 'type'> {
  /** The type that was asked for. */
  type?: GgmlTensorType
  adapters: AdapterReport[]
}

const KEYS = ['loras', 'type', 'rules', 'signal', 'onProgress']

/**
 * Writes a model with LoRA files merged into its weights as one GGUF file, with all of its components, tokenizer and
 * schedule. Tensors that do not change keep their bytes; those that do are rounded to their type, so that quantized
 * weights lose a little of the change unless `type` or `rules` name a larger type. Weights are read and written in
 * chunks: memory stays below a few hundred megabytes. The file appears under its name when it is complete.
 *
 * @param input a model as openModel() reads it, or one on the Hugging Face Hub: `hf:owner/name`
 * @param output the GGUF file to write
 * @throws {TypeError} an option of the wrong type, or one that does not exist
 * @throws {RangeError} an option out of bounds, or an output that is a file of the input or one of the LoRA files
 * @throws {DiffusionError} as openModel(); UNSUPPORTED_MODEL also for a file of which nothing can be applied; IO: the
 *   file cannot be written; MODEL_FORMAT: the type cannot represent a weight (NaN, infinity)
 */
export async function mergeModel(input: string, output: string, options: MergeOptions): Promise<MergeReport> {
  checkOutputPath(output)
  const given = checkObject(options, 'options', KEYS)
  const loras = checkLoras(given.loras, 'loras')
  if (loras.length === 0) throw new RangeError(expectation('at least 1 path', 'loras', given.loras))
  const type = given.type === undefined ? undefined : checkTensorType(given.type, 'type')
  const rules = parseRules(given.rules)
  const signal = checkSignal(given.signal)
  const onProgress = checkProgress(given.onProgress)
  throwIfAborted(signal)

  const model = await openModel(await localPath(input, signal))
  const adapters: AdapterReport[] = []
  for (const lora of loras)
    adapters.push(await applyLora(model, { ...lora, path: await localPath(lora.path, signal) }))
  await checkOutput(model, output)
  const plan = type === undefined ? planMerged(model, rules) : planTensors(model, type, rules)
  const { losses, fileBytes } = await writeModel(model, output, plan, { signal, onProgress })
  return { output, ...(type && { type }), ...describePlan(plan, losses), fileBytes, adapters }
}
