import type { StoredTensor, TensorFile } from '../models/formats/tensor-file.js'
import type { ModelDescription } from '../models/index.js'
import type { Group, Role } from './groups.js'
import { applyGroups, type Applied } from './lora.js'

/**
 * The LoRA in IP-Adapter files of the kind FaceID. Its layers are the UNet's attentions by their number:
 * `ip_adapter.0.to_q_lora.down.weight`.
 */
const NAME = /^ip_adapter\.(\d+)\.to_(q|k|v|out)_lora\.(up|down)\.weight$/

export function isFaceLora(name: string): boolean {
  return NAME.test(name)
}

/** Makes the LoRA part of the model's description. Undefined: the file has none. */
export function applyFaceLora(model: ModelDescription, path: string, file: TensorFile): Applied | undefined {
  const attentions = attentionNames(model.unet?.source.tensors ?? [])
  const groups = new Map<string, Group>()
  const unplaced: string[] = []
  for (const [name, tensor] of file.tensors) {
    const match = NAME.exec(name)
    if (!match) continue
    const attention = attentions.at(Number(match[1]))
    if (attention === undefined) {
      unplaced.push(name)
      continue
    }
    const layer = `${attention}.to_${match[2]}`
    const group = groups.get(layer) ?? {
      component: 'unet',
      layer,
      key: layer.replaceAll('.', '_'),
      tensors: new Map<Role, StoredTensor>(),
    }
    group.tensors.set(match[3] as Role, tensor)
    groups.set(layer, group)
  }
  if (groups.size === 0 && unplaced.length === 0) return undefined
  return applyGroups(model, path, file, [...groups.values()], { scaleOf: () => 1, unplaced })
}

/** The UNet's attentions in the order in which these files count them: diffusers' attn_processors. */
function attentionNames(tensors: readonly { name: string }[]): string[] {
  const stems = tensors.flatMap(({ name }) => /^(.*\.attn[12])\.to_q\.weight$/.exec(name)?.[1] ?? [])
  const parts = ['down_blocks', 'up_blocks', 'mid_block']
  const part = (stem: string) => parts.findIndex((one) => stem.startsWith(one))
  // sort() is stable: within a part they stay in the order of the layers.
  return stems.sort((a, b) => part(a) - part(b))
}
