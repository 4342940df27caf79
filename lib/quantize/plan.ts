import type { ModelSource, TensorEntry, GgmlTensorType } from '../native.js'
import { GGML_TYPES, ggmlBytes, isGgmlType } from '../models/formats/gguf-types.js'
import type { GgufTensor } from '../models/formats/gguf-writer.js'
import type { ModelDescription } from '../models/model-description.js'
import { groupOf } from './groups.js'
import { bitsOf, defaultRules, type Rule } from './rules.js'

/** The plan for one tensor. */
export interface PlannedTensor extends GgufTensor {
  source: ModelSource
  entry: TensorEntry
  /** The part of the report that it belongs to. */
  group: string
  /** Whether the bytes are copied as they are stored. */
  copied?: boolean
  /** The requested type, if its blocks do not fit the tensor's rows. */
  wanted?: GgmlTensorType
  elements: number
  bytes: number
  /** The outermost dimension, along which the tensor can be divided into chunks. */
  rows: number
}

export interface Plan {
  tensors: PlannedTensor[]
  /** Rules that match no tensor and are probably mistyped. */
  unusedRules: string[]
}

/**
 * The type that replaces another one if its blocks do not fill a row: at least as precise, with blocks of 32 in place
 * of 256, or without blocks.
 */
const FALLBACK: Partial<Record<GgmlTensorType, GgmlTensorType>> = {
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

/** Smaller tensors are not quantized. */
const MIN_QUANTIZED_ELEMENTS = 1024

/** @param rules in their order; they take precedence over the defaults */
export function planTensors(model: ModelDescription, type: GgmlTensorType, rules: readonly Rule[]): Plan {
  const defaults = defaultRules(type, model.unet?.config.blockChannels.length ?? 0)
  return plan(model, rules, (name, entry, source) =>
    planTensor(name, entry, source, defaultType(name, entry, type, defaults)),
  )
}

/** The plan of a merged model: tensors keep the types that they are stored in. */
export function planMerged(model: ModelDescription, rules: readonly Rule[]): Plan {
  return plan(model, rules, (name, entry, source) => {
    const { type, adapters, scale, channelsLast = false } = entry
    // Types that are only read become the smallest one that holds all of their values.
    const kept = isGgmlType(type) ? type : type === 'f64' ? 'f32' : 'f16'
    const tensor = planTensor(name, entry, source, kept)
    const sameOrder = (tensor.channelsLast ?? false) === channelsLast
    const copied = !adapters && tensor.type === type && scale === undefined && sameOrder
    return { ...tensor, ...(copied && { copied }) }
  })
}

/** @param planDefault the plan for a tensor that no rule matches */
function plan(
  model: ModelDescription,
  rules: readonly Rule[],
  planDefault: (name: string, entry: TensorEntry, source: ModelSource) => PlannedTensor,
): Plan {
  const used = new Set<Rule>()
  const tensors: PlannedTensor[] = []
  const components = [
    ...model.textEncoders.map(
      ({ source }, i) => [i === 0 ? 'text_encoder' : `text_encoder_${i + 1}`, source] as const,
    ),
    ['unet', model.unet?.source],
    ['control_net', model.controlNet?.source],
    ['vae', model.vae?.source],
    ['image_encoder', model.unclip?.imageEncoder?.source],
  ] as const
  for (const [component, source] of components) {
    for (const entry of source?.tensors ?? []) {
      const name = `${component}.${entry.name}`
      const rule = rules.find(({ matches }) => matches(name))
      if (rule) used.add(rule)
      tensors.push(
        rule ? planTensor(name, entry, source!, rule.type, rule) : planDefault(name, entry, source!),
      )
    }
  }
  return { tensors, unusedRules: rules.filter((rule) => !used.has(rule)).map(({ text }) => text) }
}

function planTensor(
  name: string,
  entry: TensorEntry,
  source: ModelSource,
  wanted: GgmlTensorType,
  rule?: Rule,
): PlannedTensor {
  const shape = storedShape(entry.shape)
  const elements = count(shape)
  const blocks = GGML_TYPES[wanted].elements > 1
  const channelsLast = shape.length === 4
  const row = (channelsLast ? shape[1] : shape.at(-1)) ?? 1
  // Vectors are never quantized, whatever the rules.
  const keep = blocks && (shape.length < 2 || (!rule && elements < MIN_QUANTIZED_ELEMENTS))
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
  type: GgmlTensorType,
  defaults: readonly Rule[],
): GgmlTensorType {
  // Biases and norms take little memory, and their precision matters.
  if (storedShape(entry.shape).length < 2) return 'f32'
  // A type without blocks applies to the whole model.
  if (GGML_TYPES[type].elements === 1) return type
  const kept = defaults.find(({ matches }) => matches(name))?.type
  if (!kept) return type
  // A tensor that is stored in fewer bits already gains nothing from more. f16 holds f8 exactly.
  const { type: stored } = entry
  return isGgmlType(stored) && bitsOf(stored) < bitsOf(kept) ? stored : kept
}

function fitting(type: GgmlTensorType, row: number): GgmlTensorType {
  while (row % GGML_TYPES[type].elements !== 0) type = FALLBACK[type]!
  return type
}

/** A 1×1 convolution is stored as a linear layer, so that blocks run along its inputs. */
function storedShape(shape: readonly number[]): number[] {
  let rank = shape.length
  while (rank > 2 && shape[rank - 1] === 1) rank--
  return shape.slice(0, rank)
}

function count(shape: readonly number[]): number {
  return shape.reduce((product, length) => product * length, 1)
}
