import type { ModelSource, TensorEntry, TensorType } from '../native.js'
import { GGML_TYPES, ggmlBytes } from '../weights/gguf-types.js'
import type { GgufTensor } from '../weights/gguf-writer.js'
import type { ModelDescription } from '../weights/model-description.js'
import { groupOf } from './groups.js'
import { bitsOf, defaultRules, type Rule } from './rules.js'

/** What happens to one tensor. */
export interface PlannedTensor extends GgufTensor {
  source: ModelSource
  entry: TensorEntry
  /** Of the report. */
  group: string
  /** The type asked for, where its blocks do not fit the tensor's rows. */
  wanted?: TensorType
  elements: number
  bytes: number
  /** The outermost dimension, over which the work can be cut. */
  rows: number
}

export interface Plan {
  tensors: PlannedTensor[]
  /** Rules that match no tensor: most likely mistyped. */
  unusedRules: string[]
}

/**
 * The type to take where a type's blocks do not fill a row: the next one that is no worse. Blocks of 256 give way to
 * blocks of 32, those to no blocks.
 */
const FALLBACK: Partial<Record<TensorType, TensorType>> = {
  q2_k: 'q4_0',
  q3_k: 'q4_0',
  q4_k: 'q5_0',
  q5_k: 'q5_1',
  q6_k: 'q8_0',
  q8_0: 'f16',
  q5_1: 'f16',
  q5_0: 'f16',
  q4_1: 'f16',
  q4_0: 'f16',
}

/** Smaller tensors are not worth a block's scale. */
const TINY = 1024

/** @param rules tried before the defaults, in their order */
export function planTensors(model: ModelDescription, type: TensorType, rules: readonly Rule[]): Plan {
  const used = new Set<Rule>()
  const defaults = defaultRules(type, model.unet?.config.blockChannels.length ?? 0)
  const tensors: PlannedTensor[] = []
  const components = [
    ...model.textEncoders.map(
      ({ source }, i) => [i === 0 ? 'text_encoder' : `text_encoder_${i + 1}`, source] as const,
    ),
    ['unet', model.unet?.source],
    ['vae', model.vae?.source],
  ] as const
  for (const [component, source] of components) {
    for (const entry of source?.tensors ?? []) {
      const name = `${component}.${entry.name}`
      const rule = rules.find(({ matches }) => matches(name))
      if (rule) used.add(rule)
      const wanted = rule ? rule.type : defaultType(name, entry, type, defaults)
      tensors.push(planTensor(name, entry, source!, wanted, rule))
    }
  }
  return { tensors, unusedRules: rules.filter((rule) => !used.has(rule)).map(({ text }) => text) }
}

function planTensor(
  name: string,
  entry: TensorEntry,
  source: ModelSource,
  wanted: TensorType,
  rule: Rule | undefined,
): PlannedTensor {
  const shape = storedShape(entry.shape)
  const elements = count(shape)
  const blocks = GGML_TYPES[wanted].elements > 1
  const channelsLast = shape.length === 4
  const row = (channelsLast ? shape[1] : shape.at(-1)) ?? 1
  // No rule puts vectors in blocks.
  const keep = blocks && (shape.length < 2 || (!rule && elements < TINY))
  const type = keep ? 'f32' : fitting(wanted, row)
  return {
    name,
    type,
    shape,
    ...(channelsLast && { channelsLast }),
    ...(!keep && type !== wanted && { wanted }),
    source,
    entry,
    group: groupOf(name),
    elements,
    bytes: ggmlBytes(type, elements),
    rows: shape.length < 2 ? 1 : shape[0],
  }
}

function defaultType(
  name: string,
  entry: TensorEntry,
  type: TensorType,
  defaults: readonly Rule[],
): TensorType {
  // Biases and norms: a few kilobytes that everything else is added to or multiplied with.
  if (storedShape(entry.shape).length < 2) return 'f32'
  // Types without blocks are for whole models.
  if (GGML_TYPES[type].elements === 1) return type
  const kept = defaults.find(({ matches }) => matches(name))?.type
  if (!kept) return type
  // What is stored in fewer bits already gains nothing from more.
  return bitsOf(entry.type) < bitsOf(kept) ? entry.type : kept
}

function fitting(type: TensorType, row: number): TensorType {
  while (row % GGML_TYPES[type].elements !== 0) type = FALLBACK[type]!
  return type
}

/** A 1×1 convolution is stored as the linear layer that it is, so that blocks can run along its inputs. */
function storedShape(shape: readonly number[]): number[] {
  let rank = shape.length
  while (rank > 2 && shape[rank - 1] === 1) rank--
  return shape.slice(0, rank)
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1)
}
