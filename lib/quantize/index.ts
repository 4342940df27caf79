import { throwIfAborted } from '../abort.js'
import { checkFunction, checkObject, checkSignal, checkString } from '../check.js'
import { DiffusionError } from '../errors.js'
import { localPath } from '../hub/index.js'
import { native, type ConvertedRows, type GgmlTensorType } from '../native.js'
import { cancellable } from '../native-call.js'
import { GgufWriter } from '../models/formats/gguf-writer.js'
import { CONFIG_KEY, openModel, writeStoredConfig } from '../models/index.js'
import { checkOutput } from './output.js'
import { planTensors, type PlannedTensor } from './plan.js'
import { describeFallbacks, describeGroups, Losses, totals, type QuantizeReport } from './report.js'
import { checkTensorType, parseRules } from './rules.js'

export type { Group } from './groups.js'
export type { QuantizedGroup, QuantizeReport, TypeFallback } from './report.js'

/** Progress of quantizeModel(). */
export interface QuantizeProgress {
  /** Number of parameters written. */
  done: number
  /** Number of parameters of the model. */
  total: number
  /** The tensor that is written next; empty at the end. */
  tensor: string
}

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

/** Number of elements converted at a time, which bounds the memory. */
const CHUNK_ELEMENTS = 4 << 20

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
  checkString(output, 'output')
  if (output === '') throw new RangeError('Expected a path for output but received an empty string')
  const given = checkObject(options, 'options', KEYS)
  const type = checkTensorType(given.type, 'type')
  const rules = parseRules(given.rules)
  const signal = checkSignal(given.signal)
  const onProgress =
    given.onProgress === undefined
      ? undefined
      : checkFunction<NonNullable<QuantizeOptions['onProgress']>>(given.onProgress, 'onProgress')
  throwIfAborted(signal)

  const model = await openModel(await localPath(input, signal))
  await checkOutput(model, output)
  const plan = planTensors(model, type, rules)
  const losses = new Losses()
  const metadata = {
    'general.architecture': 'latent-diffusion',
    'general.name': model.architecture,
    'general.quantization_version': 2,
    [CONFIG_KEY]: writeStoredConfig(model),
  }
  const writer = await GgufWriter.create(output, metadata, plan.tensors)
  const total = plan.tensors.reduce((sum, { elements }) => sum + elements, 0)
  let writing: Promise<void> = Promise.resolve()
  try {
    let done = 0
    for (const tensor of plan.tensors) {
      for (const [first, count] of chunks(tensor)) {
        onProgress?.({ done, total, tensor: tensor.name })
        // One chunk is written while the next one is computed.
        const [rows] = await Promise.all([convert(tensor, first, count, signal), writing])
        checkRepresentable(tensor, rows)
        // Vectors are not quantized, and norms are so large that they would hide the error of the matrices.
        if (tensor.shape.length > 1) losses.add(tensor.group, rows)
        writing = writer.write(rows.bytes)
        // It is awaited in the next iteration or after the loop; until then a failure must not count as unhandled.
        writing.catch(() => {})
        done += (tensor.elements / tensor.rows) * count
      }
    }
    await writing
    throwIfAborted(signal)
    onProgress?.({ done, total, tensor: '' })
    await writer.finish(signal)
  } catch (error) {
    await writing.catch(() => {})
    await writer.abandon()
    throw error
  }
  return {
    output,
    type,
    ...totals(plan.tensors),
    fileBytes: writer.bytes,
    error: losses.all,
    groups: describeGroups(plan, losses),
    fallbacks: describeFallbacks(plan.tensors),
    unusedRules: plan.unusedRules,
  }
}

/** First row and number of rows of each chunk. */
function* chunks({ rows, elements }: PlannedTensor): Generator<[first: number, count: number]> {
  const count = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(1, elements / rows)))
  for (let first = 0; first < rows; first += count) yield [first, Math.min(count, rows - first)]
}

function convert(
  { source, entry, type, channelsLast = false }: PlannedTensor,
  first: number,
  count: number,
  signal: AbortSignal | undefined,
): Promise<ConvertedRows> {
  const one = {
    files: [source.files[entry.file]],
    identities: source.identities && [source.identities[entry.file]],
    tensors: [{ ...entry, file: 0 }],
  }
  return cancellable(signal, (cancel) => native().convertRows(one, type, channelsLast, first, count, cancel))
}

/** Refuses values that the type cannot represent. float32 represents all of them. */
function checkRepresentable({ name, type, source, entry }: PlannedTensor, rows: ConvertedRows): void {
  if (type === 'f32' || Number.isFinite(rows.squaredError)) return
  throw new DiffusionError(
    'MODEL_FORMAT',
    `${source.files[entry.file]}: tensor ${name} holds NaN, infinity or numbers too large for ${type}; ` +
      `to keep it as it is, add the rule ${name}=f32`,
  )
}
