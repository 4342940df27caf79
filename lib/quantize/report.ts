import type { GgmlTensorType } from '../native.js'
import { GGML_TYPES } from '../models/formats/gguf-types.js'
import { GROUPS, type Group } from './groups.js'
import type { Plan, PlannedTensor } from './plan.js'

/** The result for one part of the model. */
export interface QuantizedGroup {
  name: Group
  parameters: number
  bytesBefore: number
  bytesAfter: number
  /** Number of tensors of each type, the most frequent type first. */
  types: { type: GgmlTensorType; tensors: number }[]
  /**
   * Root mean square error of its matrices and convolution kernels, relative to the root mean square of the weights.
   */
  error: number
}

/** Tensors whose rows do not fill the blocks of the requested type, and the type that they are stored in. */
export interface TypeFallback {
  /** The requested type. */
  wanted: GgmlTensorType
  /** The type that they are stored in. */
  type: GgmlTensorType
  /** Number of elements in a block of the requested type. */
  block: number
  tensors: string[]
}

export interface QuantizeReport {
  output: string
  type: GgmlTensorType
  parameters: number
  bytesBefore: number
  /** Size of the tensors; the file is slightly larger. */
  bytesAfter: number
  fileBytes: number
  /** Relative error of all weights, as in QuantizedGroup. */
  error: number
  groups: QuantizedGroup[]
  fallbacks: TypeFallback[]
  /** Rules that matched no tensor. */
  unusedRules: string[]
}

interface Sums {
  squaredError: number
  squaredNorm: number
}

/** Sums up the errors of all tensors. */
export class Losses {
  readonly #groups = new Map<string, Sums>()

  add(group: string, { squaredError, squaredNorm }: Sums): void {
    // float32 keeps NaN and infinity, whose error is not a number.
    if (!Number.isFinite(squaredError + squaredNorm)) return
    const sums = this.#groups.get(group) ?? { squaredError: 0, squaredNorm: 0 }
    sums.squaredError += squaredError
    sums.squaredNorm += squaredNorm
    this.#groups.set(group, sums)
  }

  of(group: string): number {
    return relative([this.#groups.get(group)])
  }

  get all(): number {
    return relative([...this.#groups.values()])
  }
}

function relative(parts: (Sums | undefined)[]): number {
  let [error, norm] = [0, 0]
  for (const part of parts) {
    error += part?.squaredError ?? 0
    norm += part?.squaredNorm ?? 0
  }
  return error > 0 && norm > 0 ? Math.sqrt(error / norm) : 0
}

/** What a report says of the written tensors. */
export function describePlan(plan: Plan, losses: Losses) {
  return {
    ...totals(plan.tensors),
    error: losses.all,
    groups: describeGroups(plan, losses),
    fallbacks: describeFallbacks(plan.tensors),
    unusedRules: plan.unusedRules,
  }
}

function describeGroups(plan: Plan, losses: Losses): QuantizedGroup[] {
  return GROUPS.flatMap((name) => {
    const tensors = plan.tensors.filter(({ group }) => group === name)
    if (tensors.length === 0) return []
    return [{ name, ...totals(tensors), types: countTypes(tensors), error: losses.of(name) }]
  })
}

function totals(tensors: readonly PlannedTensor[]) {
  const sums = { parameters: 0, bytesBefore: 0, bytesAfter: 0 }
  for (const { elements, bytes, entry } of tensors) {
    sums.parameters += elements
    sums.bytesBefore += entry.bytes
    sums.bytesAfter += bytes
  }
  return sums
}

function countTypes(tensors: readonly PlannedTensor[]): { type: GgmlTensorType; tensors: number }[] {
  const counts = new Map<GgmlTensorType, number>()
  for (const { type } of tensors) counts.set(type, (counts.get(type) ?? 0) + 1)
  return [...counts].map(([type, tensors]) => ({ type, tensors })).sort((a, b) => b.tensors - a.tensors)
}

function describeFallbacks(tensors: readonly PlannedTensor[]): TypeFallback[] {
  const found = new Map<string, TypeFallback>()
  for (const { name, type, wanted } of tensors) {
    if (!wanted) continue
    const key = `${wanted} ${type}`
    const row = found.get(key) ?? { wanted, type, block: GGML_TYPES[wanted].elements, tensors: [] }
    row.tensors.push(name)
    found.set(key, row)
  }
  return [...found.values()]
}
