/** Writes the tensors of a plan as a GGUF file, a chunk at a time. */
import { throwIfAborted } from '../abort.js'
import { checkFunction } from '../check.js'
import { DiffusionError } from '../errors.js'
import { native, type ConvertedRows, type ModelSource, type TensorEntry } from '../native.js'
import { cancellable } from '../native-call.js'
import { GgufWriter } from '../models/formats/gguf-writer.js'
import { readExactly, withFile } from '../models/formats/tensor-file.js'
import { CONFIG_KEY, writeStoredConfig, type ModelDescription } from '../models/index.js'
import type { Plan, PlannedTensor } from './plan.js'
import { Losses } from './report.js'

/** Progress of quantizeModel() and mergeModel(). */
export interface QuantizeProgress {
  /** Number of parameters written. */
  done: number
  /** Number of parameters of the model. */
  total: number
  /** The tensor that is written next; empty at the end. */
  tensor: string
}

type OnProgress = (progress: QuantizeProgress) => void

/** Number of elements converted at a time, which bounds the memory. */
const CHUNK_ELEMENTS = 4 << 20

/** Checks the option if it is given. */
export function checkProgress(value: unknown): OnProgress | undefined {
  return value === undefined ? undefined : checkFunction<OnProgress>(value, 'onProgress')
}

/**
 * Writes the file, which appears under its name when it is complete.
 *
 * @throws {DiffusionError} IO; MODEL_FORMAT: a type cannot represent a weight
 */
export async function writeModel(
  model: ModelDescription,
  output: string,
  { tensors }: Plan,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: OnProgress },
): Promise<{ losses: Losses; fileBytes: number }> {
  const losses = new Losses()
  const metadata = {
    'general.architecture': 'latent-diffusion',
    'general.name': model.architecture,
    'general.quantization_version': 2,
    [CONFIG_KEY]: writeStoredConfig(model),
  }
  const writer = await GgufWriter.create(output, metadata, tensors)
  const total = tensors.reduce((sum, { elements }) => sum + elements, 0)
  let writing: Promise<void> = Promise.resolve()
  try {
    let done = 0
    for (const tensor of tensors) {
      for (const [first, count] of chunks(tensor)) {
        onProgress?.({ done, total, tensor: tensor.name })
        // One chunk is written while the next one is computed.
        const [bytes] = await Promise.all([makeChunk(tensor, first, count, losses, signal), writing])
        writing = writer.write(bytes)
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
  return { losses, fileBytes: writer.bytes }
}

/** First row and number of rows of each chunk. */
function* chunks({ rows, elements }: PlannedTensor): Generator<[first: number, count: number]> {
  const count = Math.max(1, Math.floor(CHUNK_ELEMENTS / Math.max(1, elements / rows)))
  for (let first = 0; first < rows; first += count) yield [first, Math.min(count, rows - first)]
}

async function makeChunk(
  tensor: PlannedTensor,
  first: number,
  count: number,
  losses: Losses,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (tensor.copied) {
    throwIfAborted(signal)
    return copyRows(tensor, first, count)
  }
  const rows = await convert(tensor, first, count, signal)
  checkRepresentable(tensor, rows)
  // Vectors are not quantized, and norms are so large that they would hide the error of the matrices.
  if (tensor.shape.length > 1) losses.add(tensor.group, rows)
  return rows.bytes
}

/** Rows as they are stored. */
function copyRows({ source, entry, rows }: PlannedTensor, first: number, count: number): Promise<Uint8Array> {
  const path = source.files[entry.file]
  const row = entry.bytes / rows
  return withFile(
    path,
    (file) => readExactly(path, file, entry.offset + first * row, count * row),
    source.identities?.[entry.file],
  )
}

function convert(
  { source, entry, type, channelsLast = false }: PlannedTensor,
  first: number,
  count: number,
  signal: AbortSignal | undefined,
): Promise<ConvertedRows> {
  const one = onlyTensor(source, entry)
  return cancellable(signal, (cancel) => native().convertRows(one, type, channelsLast, first, count, cancel))
}

/** A source of one tensor, with the files that it and its adapters are in. */
function onlyTensor(source: ModelSource, entry: TensorEntry): ModelSource {
  const used: number[] = []
  const renumber = (tensor: TensorEntry): TensorEntry => {
    const known = used.indexOf(tensor.file)
    return { ...tensor, file: known >= 0 ? known : used.push(tensor.file) - 1 }
  }
  const adapters = entry.adapters?.map((adapter) => ({
    ...adapter,
    factors: adapter.factors.map((parts) => parts.map(renumber)),
    ...(adapter.magnitude && { magnitude: renumber(adapter.magnitude) }),
  }))
  const tensor = { ...renumber(entry), ...(adapters && { adapters }) }
  return {
    files: used.map((file) => source.files[file]),
    identities: source.identities && used.map((file) => source.identities![file]),
    tensors: [tensor],
  }
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
