import { renameTensors, type Tensors } from '../component.js'

/**
 * Renames the UNet's tensors from the names of the original latent-diffusion code to diffusers'. The original numbers
 * blocks consecutively (`input_blocks.0…11`, `output_blocks.0…11`), and the last one of a level changes the resolution.
 * So the level and layer of a block follow from the blocks before it.
 */

const RESNET: Readonly<Record<string, string>> = {
  'in_layers.0': 'norm1',
  'in_layers.2': 'conv1',
  'emb_layers.1': 'time_emb_proj',
  'out_layers.0': 'norm2',
  'out_layers.3': 'conv2',
  skip_connection: 'conv_shortcut',
}

const OUTER: Readonly<Record<string, string>> = {
  'time_embed.0': 'time_embedding.linear_1',
  'time_embed.2': 'time_embedding.linear_2',
  'time_embed.cond_proj': 'time_embedding.cond_proj',
  'input_blocks.0.0': 'conv_in',
  'out.0': 'conv_norm_out',
  'out.2': 'conv_out',
}

export function isOriginalUnet(tensors: Tensors): boolean {
  return tensors.has('input_blocks.0.0.weight')
}

export function renameOriginalUnet(paths: readonly string[], tensors: Tensors): Tensors {
  const labels = labelName(tensors)
  const blocks = new Map([...placeEncoder(tensors), ...placeMiddle(tensors), ...placeDecoder(tensors)])
  return renameTensors(paths, tensors, (name) => {
    const dot = name.lastIndexOf('.')
    const [stem, leaf] = [name.slice(0, dot), name.slice(dot)]
    if (Object.hasOwn(OUTER, stem)) return OUTER[stem] + leaf
    if (stem === 'label_emb') return `class_embedding${leaf}`
    const label = /^label_emb\.0\.([02])$/.exec(stem)
    if (label) return `${labels}.linear_${label[1] === '0' ? 1 : 2}${leaf}`
    const match = /^(?:(?:input|output)_blocks\.\d+\.\d+(?:\.op|\.conv)?|middle_block\.\d+)(?=\.)/.exec(name)
    const place = match && blocks.get(match[0])
    // A tensor without a place keeps its name. Whether that is an error, the engine's list of tensors decides.
    if (!place) return name
    const rest = name.slice(match[0].length)
    if (!place.includes('resnets')) return place + rest
    const part = stem.slice(match[0].length + 1)
    return Object.hasOwn(RESNET, part) ? `${place}.${RESNET[part]}${leaf}` : name
  })
}

function has(tensors: Tensors, ...stems: string[]): boolean {
  return stems.some((stem) => tensors.has(`${stem}.weight`))
}

/**
 * What `label_emb` embeds: a class (the image of Stable unCLIP, whose UNet is that of Stable Diffusion 2), or pooled text
 * and sizes (SDXL).
 */
function labelName(tensors: Tensors): 'class_embedding' | 'add_embedding' {
  for (const [name, { shape }] of tensors) {
    if (name.endsWith('.transformer_blocks.0.attn2.to_k.weight'))
      return shape[1] === 1024 ? 'class_embedding' : 'add_embedding'
  }
  return 'add_embedding'
}

/**
 * The numbers of all blocks of this kind, in order. Models with fewer layers (BK-SDM) keep the numbers that their blocks
 * had in Stable Diffusion, so there can be gaps.
 */
function blockNumbers(tensors: Tensors, kind: 'input_blocks' | 'output_blocks'): number[] {
  const numbers = new Set<number>()
  for (const name of tensors.keys()) {
    const match = /^(input_blocks|output_blocks)\.(\d{1,3})\./.exec(name)
    if (match?.[1] === kind) numbers.add(Number(match[2]))
  }
  return [...numbers].sort((a, b) => a - b)
}

function placeEncoder(tensors: Tensors): Map<string, string> {
  const places = new Map<string, string>()
  let [level, layer] = [0, 0]
  for (const i of blockNumbers(tensors, 'input_blocks')) {
    const block = `input_blocks.${i}`
    if (has(tensors, `${block}.0.op`)) {
      places.set(`${block}.0.op`, `down_blocks.${level}.downsamplers.0.conv`)
      level++
      layer = 0
    } else if (has(tensors, `${block}.0.in_layers.0`)) {
      places.set(`${block}.0`, `down_blocks.${level}.resnets.${layer}`)
      places.set(`${block}.1`, `down_blocks.${level}.attentions.${layer}`)
      layer++
    }
  }
  return places
}

function placeMiddle(tensors: Tensors): Map<string, string> {
  const attends = !has(tensors, 'middle_block.1.in_layers.0')
  return new Map([
    ['middle_block.0', 'mid_block.resnets.0'],
    ['middle_block.1', attends ? 'mid_block.attentions.0' : 'mid_block.resnets.1'],
    ...(attends ? [['middle_block.2', 'mid_block.resnets.1'] as const] : []),
  ])
}

function placeDecoder(tensors: Tensors): Map<string, string> {
  const places = new Map<string, string>()
  let [block, layer] = [0, 0]
  for (const i of blockNumbers(tensors, 'output_blocks')) {
    if (has(tensors, `output_blocks.${i}.0.in_layers.0`)) {
      places.set(`output_blocks.${i}.0`, `up_blocks.${block}.resnets.${layer}`)
      places.set(`output_blocks.${i}.1`, `up_blocks.${block}.attentions.${layer}`)
      layer++
    }
    // The upsampler comes after the attention if there is one, so its number depends on the level.
    const upsampler = [1, 2].map((n) => `output_blocks.${i}.${n}.conv`).find((name) => has(tensors, name))
    if (upsampler === undefined) continue
    places.set(upsampler, `up_blocks.${block}.upsamplers.0.conv`)
    block++
    layer = 0
  }
  return places
}

/**
 * The original names of the UNet's layers by diffusers': `down_blocks.0.resnets.0.conv1` →
 * `input_blocks.1.0.in_layers.2`. Adapters may use either.
 *
 * @param stems the names of all layers of one UNet, in diffusers' convention
 */
export function originalUnetStems(stems: Iterable<string>): Map<string, string> {
  const all = [...stems]
  const blocks = all.flatMap((stem) => BLOCK.exec(stem)?.[0] ?? [])
  const places = originalPlaces(new Set(blocks))
  const resnet = new Map(Object.entries(RESNET).map(([original, name]) => [name, original]))
  const outer = new Map(Object.entries(OUTER).map(([original, name]) => [name, original]))
  const result = new Map<string, string>()
  for (const stem of all) {
    const block = BLOCK.exec(stem)
    if (!block) {
      const original = outer.get(stem)
      if (original !== undefined) result.set(stem, original)
      continue
    }
    const place = places.get(block[0])
    const rest = stem.slice(block[0].length + 1)
    if (place === undefined) continue
    if (block[1].endsWith('samplers')) result.set(stem, place)
    else if (block[1] === 'attentions') result.set(stem, `${place}.${rest}`)
    else if (resnet.has(rest)) result.set(stem, `${place}.${resnet.get(rest)}`)
  }
  return result
}

/** A residual block, an attention or a resampling layer in diffusers' convention. */
const BLOCK =
  /^(?:(?:down|up)_blocks\.\d+|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.\d+(?=\.)/

/** The original names of these blocks. */
function originalPlaces(blocks: ReadonlySet<string>): Map<string, string> {
  const places = new Map<string, string>()
  const put = (name: string, original: string) => {
    if (blocks.has(name)) places.set(name, original)
    return blocks.has(name)
  }
  let index = 1
  for (let level = 0; blocks.has(`down_blocks.${level}.resnets.0`); level++) {
    for (let layer = 0; put(`down_blocks.${level}.resnets.${layer}`, `input_blocks.${index}.0`); layer++)
      put(`down_blocks.${level}.attentions.${layer}`, `input_blocks.${index++}.1`)
    if (put(`down_blocks.${level}.downsamplers.0`, `input_blocks.${index}.0.op`)) index++
  }
  put('mid_block.resnets.0', 'middle_block.0')
  const attends = put('mid_block.attentions.0', 'middle_block.1')
  put('mid_block.resnets.1', attends ? 'middle_block.2' : 'middle_block.1')
  index = 0
  for (let level = 0; blocks.has(`up_blocks.${level}.resnets.0`); level++) {
    let attended = false
    for (let layer = 0; put(`up_blocks.${level}.resnets.${layer}`, `output_blocks.${index}.0`); layer++)
      attended = put(`up_blocks.${level}.attentions.${layer}`, `output_blocks.${index++}.1`)
    // The upsampler comes after the attention if there is one.
    put(`up_blocks.${level}.upsamplers.0`, `output_blocks.${index - 1}.${attended ? 2 : 1}.conv`)
  }
  return places
}
