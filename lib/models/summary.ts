import type { ModelSource, TensorType } from '../native.js'

export interface TypeSummary {
  type: TensorType
  tensors: number
  parameters: number
  bytes: number
}

/** The size of a component on disk. */
export interface ComponentSummary {
  tensors: number
  parameters: number
  bytes: number
  /** Element types in use, the one with most parameters first. */
  types: TypeSummary[]
}

export function componentSummary(source: ModelSource): ComponentSummary {
  const types = new Map<TensorType, TypeSummary>()
  const total = { tensors: 0, parameters: 0, bytes: 0 }
  for (const { type, shape, bytes } of source.tensors) {
    const row = types.get(type) ?? { type, tensors: 0, parameters: 0, bytes: 0 }
    types.set(type, row)
    for (const sum of [row, total]) {
      sum.tensors += 1
      sum.parameters += shape.reduce((product, length) => product * length, 1)
      sum.bytes += bytes
    }
  }
  return { ...total, types: [...types.values()].sort((a, b) => b.parameters - a.parameters) }
}
