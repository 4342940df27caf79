import { addTensor, renameTensors, type Tensors } from '../component.js'
import { rowsOf } from './fused.js'
import { renameOriginalUnet } from './unet.js'

/** Whether these are the tensors of a ControlNet, in diffusers' names or, without their prefix, in the original ones. */
export function isControlNet(tensors: Tensors): boolean {
  return tensors.has('controlnet_cond_embedding.conv_in.weight') || tensors.has('input_hint_block.0.weight')
}

/** Whether these are the tensors of a ControlNet for several kinds of pictures. */
export function isUnion(tensors: Tensors): boolean {
  return tensors.has('task_embedding')
}

/**
 * The tensors of a union ControlNet with the projections of values apart. Nothing depends on those of queries and keys:
 * each token of its transformer attends to itself alone.
 */
function separateValues(paths: readonly string[], tensors: Tensors): Tensors {
  const result: Tensors = new Map()
  for (const [name, tensor] of tensors) {
    const [, prefix, leaf] = /^(transformer_layes\.\d+\.attn\.)in_proj_(weight|bias)$/.exec(name) ?? []
    if (prefix === undefined) addTensor(paths, result, name, tensor)
    else
      addTensor(
        paths,
        result,
        `${prefix}v_proj.${leaf}`,
        rowsOf(paths, tensor, 2, ['queries', 'keys', 'values']),
      )
  }
  return result
}

/** Renames tensors from the names of the original code, which are those of the UNet and a few more, to diffusers'. */
export function renameControlNet(paths: readonly string[], tensors: Tensors): Tensors {
  if (isUnion(tensors)) return separateValues(paths, tensors)
  if (!tensors.has('input_hint_block.0.weight')) return tensors
  // The layers that embed the picture have even numbers, because SiLU has one, too.
  const last = Math.max(
    ...[...tensors.keys()].map((name) =>
      Number(/^input_hint_block\.(\d{1,3})\.weight$/.exec(name)?.[1] ?? 0),
    ),
  )
  return renameTensors(paths, renameOriginalUnet(paths, tensors), (name) => {
    const match = /^(input_hint_block|zero_convs|middle_block_out)\.(\d{1,3})(?:\.0)?\.(weight|bias)$/.exec(
      name,
    )
    if (!match) return name
    const [, part, number, leaf] = match
    if (part === 'middle_block_out') return `controlnet_mid_block.${leaf}`
    if (part === 'zero_convs') return `controlnet_down_blocks.${number}.${leaf}`
    const layer = Number(number)
    const layerName =
      layer === 0
        ? 'conv_in'
        : layer === last
          ? 'conv_out'
          : layer % 2 === 0
            ? `blocks.${layer / 2 - 1}`
            : undefined
    return layerName === undefined ? name : `controlnet_cond_embedding.${layerName}.${leaf}`
  })
}
