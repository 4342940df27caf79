import { throwIfAborted } from '../abort.js'
import { checkFunction, checkObject, checkSignal, checkString } from '../check.js'
import { DiffusionError } from '../errors.js'
import { native, type ConvertedRows, type TensorType } from '../native.js'
import { cancellable } from '../native-call.js'
import { GgufWriter } from '../weights/gguf-writer.js'
import { CONFIG_KEY, openModel, writeStoredConfig } from '../weights/index.js'
import { checkOutput } from './output.js'
import { planTensors, type PlannedTensor } from './plan.js'
import { describeFallbacks, describeGroups, Losses, totals, type QuantizeReport } from './report.js'
import { checkTensorType, parseRules } from './rules.js'

export type { Group } from './groups.js'
export type { QuantizedGroup, QuantizeReport, TypeFallback } from './report.js'

/** How far a model has been written. */
export interface QuantizeProgress {
  /** Parameters done, and in all. */
  done: number
  total: number
  /** The tensor that is being written. */
  tensor: string
}

export interface QuantizeOptions {
  /** What most weights become. */
  type: TensorType
  /**
   * Exceptions, `pattern=type` separated by commas: `unet.*attn*=q8_0,*.conv_in.*=f16`. Patterns match whole names such as
   * `unet.down_blocks.0.resnets.0.conv1.weight`, * any characters and ? one; the first that matches counts. Without one,
   * the VAE, embeddings, the UNet's first and last convolution and its time embedding become f16, its level of highest
   * resolution q8_0 at least (what is stored in fewer bits already stays so), and biases, norms and tiny tensors f32.
   */
  rules?: string
  /** Ends the work within 100 ms; nothing is left behind. */
  signal?: AbortSignal
  onProgress?(progress: QuantizeProgress): void
}

const KEYS = ['type', 'rules', 'signal', 'onProgress']

/** Elements converted at a time: bounds the memory whatever the tensors' sizes. */
const PIECE = 4 << 20

/**
 * Writes a model as one GGUF file with its weights quantized: everything in it (text encoder, UNet, VAE, tokenizer,
 * schedule), convolutions with their input channels innermost, so that blocks fit them. Weights are read and written
 * piece by piece: memory stays below a few hundred megabytes. The file appears under its name when it is complete.
 *
 * @param input whatever openModel() reads
 * @throws TypeError, RangeError: options; DiffusionError: the model cannot be read (as openModel()), IO: the file cannot
 * be written, MODEL_FORMAT: weights that the type cannot hold (NaN, infinity)
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

  const model = await openModel(input)
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
      for (const [first, count] of pieces(tensor)) {
        onProgress?.({ done, total, tensor: tensor.name })
        // The disk takes one piece while the next is computed.
        const [rows] = await Promise.all([convert(tensor, first, count, signal), writing])
        checkRepresentable(tensor, rows)
        // Vectors stay as they are, and norms are so large that they would hide what the matrices lose.
        if (tensor.shape.length > 1) losses.add(tensor.group, rows)
        writing = writer.write(rows.bytes)
        // Awaited above or below; until then a failure must not count as unhandled.
        writing.catch(() => {})
        done += (tensor.elements / tensor.rows) * count
      }
    }
    await writing
    throwIfAborted(signal)
    onProgress?.({ done, total, tensor: '' })
    await writer.finish()
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

/** First row and number of rows of each piece. */
function* pieces({ rows, elements }: PlannedTensor): Generator<[first: number, count: number]> {
  const count = Math.max(1, Math.floor(PIECE / Math.max(1, elements / rows)))
  for (let first = 0; first < rows; first += count) yield [first, Math.min(count, rows - first)]
}

function convert(
  { source, entry, type, channelsLast = false }: PlannedTensor,
  first: number,
  count: number,
  signal: AbortSignal | undefined,
): Promise<ConvertedRows> {
  const one = { files: [source.files[entry.file]], tensors: [{ ...entry, file: 0 }] }
  return cancellable(signal, (cancel) => native().convertRows(one, type, channelsLast, first, count, cancel))
}

/** float32 takes anything; the other types have a largest number, and blocks no NaN. */
function checkRepresentable({ name, type, source, entry }: PlannedTensor, rows: ConvertedRows): void {
  if (type === 'f32' || Number.isFinite(rows.squaredError)) return
  throw new DiffusionError(
    'MODEL_FORMAT',
    `${source.files[entry.file]}: tensor ${name} holds NaN, infinity or numbers too large for ${type}; ` +
      `to keep it as it is, add the rule ${name}=f32`,
  )
}
