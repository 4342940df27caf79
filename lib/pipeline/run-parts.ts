import { applyLora, type LoraSetting } from '../adapters/index.js'
import { requireMemoryForWeights } from '../memory.js'
import type { ModelDescription } from '../models/index.js'
import type { ModelSource, TensorEntry } from '../native.js'
import { leastWeightBytes } from './memory-plan.js'
import type { Parts } from './parts.js'
import { TextEncoder } from './text-encoder.js'
import { Unet } from './unet.js'

/** The components of one run. */
export interface RunParts {
  parts: Parts
  /** Frees what belongs to this run alone. */
  dispose(): Promise<void>
}

/**
 * Components with LoRAs of their own. They are variants of the pipeline's: layers that do not change are shared, the
 * others are made as load() would make them with all LoRAs. The pipeline's own components are not touched, so that there
 * is nothing to undo, and other calls may use them meanwhile.
 *
 * @param description the model with load()'s LoRAs
 * @throws {DiffusionError} as applyLora(); OUT_OF_MEMORY
 */
export async function withLoras(
  parts: Parts,
  description: ModelDescription,
  loras: readonly LoraSetting[],
  signal: AbortSignal,
): Promise<RunParts> {
  if (loras.length === 0) return { parts, dispose: async () => {} }
  const model = copyOf(description)
  const adapters = [...parts.adapters]
  for (const lora of loras) adapters.push(await applyLora(model, lora))
  const before = [description.unet!, ...description.textEncoders].map(({ source }) => source)
  const after = [model.unet!, ...model.textEncoders].map(({ source }) => source)
  const changed = after.map((source, i) => markChanged(source, before[i]))
  const sources = after.map((source, i) => ({ ...source, tensors: changed[i] }))
  if (parts.unet.freeDeviceMemory() === undefined)
    requireMemoryForWeights(leastWeightBytes(sources), description.path)

  const made: { dispose(): Promise<void> }[] = []
  const keep = <T extends { dispose(): Promise<void> }>(part: T): T => {
    made.push(part)
    return part
  }
  const dispose = async () => {
    await Promise.all(made.map((part) => part.dispose()))
  }
  try {
    const textEncoders = [...parts.textEncoders]
    for (const [i, base] of parts.textEncoders.entries()) {
      if (changed[i + 1].length === 0) continue
      const { device } = base
      textEncoders[i] = keep(
        await TextEncoder.load(model.textEncoders[i], parts.tokenizers[i], { device }, { signal, base }),
      )
    }
    const { unet: base } = parts
    const { device } = base
    const unet =
      changed[0].length > 0 ? keep(await Unet.load(model.unet!, { device }, { signal, base })) : base
    return { parts: { ...parts, unet, textEncoders, adapters }, dispose }
  } catch (error) {
    await dispose()
    throw error
  }
}

/** A copy whose tensors can be given adapters. */
function copyOf(model: ModelDescription): ModelDescription {
  const copy = <T extends { source: ModelSource }>(part: T): T => {
    const { files, identities, tensors } = part.source
    const source: ModelSource = {
      ...part.source,
      files: [...files],
      ...(identities && { identities: [...identities] }),
      tensors: tensors.map((tensor) => ({
        ...tensor,
        ...(tensor.adapters && { adapters: [...tensor.adapters] }),
      })),
    }
    return { ...part, source }
  }
  return { ...model, unet: copy(model.unet!), textEncoders: model.textEncoders.map(copy) }
}

/** Marks the tensors that have other adapters than before, and returns them. */
function markChanged({ tensors }: ModelSource, before: ModelSource): TensorEntry[] {
  return tensors.filter((tensor, i) => {
    tensor.changed = tensor.adapters?.length !== before.tensors[i].adapters?.length
    return tensor.changed
  })
}
