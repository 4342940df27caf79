import type { StoredTensor } from '../models/formats/tensor-file.js'

/**
 * Sorts the tensors of a LoRA file by the layer that they change. Every trainer has names of its own; what they have in
 * common is a prefix for the component, the layer's name with dots or underscores, and an ending for the tensor's role.
 */

/** The part of the model that a prefix names; undefined: the file does not say. */
export type Component = 'unet' | 'text-1' | 'text-2'

/** What a tensor does in the change of its layer. */
export type Role =
  | 'up' | 'down' | 'mid' | 'alpha' | 'magnitude' | 'dora_scale'
  | 'hada_w1_a' | 'hada_w1_b' | 'hada_w2_a' | 'hada_w2_b' | 'hada_t1' | 'hada_t2'
  | 'lokr_w1' | 'lokr_w1_a' | 'lokr_w1_b' | 'lokr_w2' | 'lokr_w2_a' | 'lokr_w2_b' | 'lokr_t2'
  | 'diff' | 'diff_b' | 'weight' | 'on_input' // prettier-ignore

/** The tensors that change one layer. */
export interface Group {
  component: Component | undefined
  /** The layer's name as the file has it, without component and role. */
  layer: string
  /** The same with underscores for dots, for looking up. */
  key: string
  tensors: Map<Role, StoredTensor>
}

/** Endings and the roles that they mean; kohya's, PEFT's, diffusers' and LyCORIS' names. */
const ROLES: readonly (readonly [RegExp, Role])[] = [
  [/\.lora_up\.weight$/, 'up'],
  [/\.lora_down\.weight$/, 'down'],
  [/\.lora_mid\.weight$/, 'mid'],
  [/\.lora_B(\.[\w-]+)?\.weight$/, 'up'],
  [/\.lora_A(\.[\w-]+)?\.weight$/, 'down'],
  [/\.lora_magnitude_vector(\.[\w-]+)?(\.weight)?$/, 'magnitude'],
  [/[._]lora(_linear_layer)?\.up\.weight$/, 'up'],
  [/[._]lora(_linear_layer)?\.down\.weight$/, 'down'],
  [/[._]lora(_linear_layer)?\.alpha$/, 'alpha'],
  [/\.alpha$/, 'alpha'],
  [/\.dora_scale$/, 'dora_scale'],
  [/\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2))$/, 'hada_w1_a'],
  [/\.diff$/, 'diff'],
  [/\.w_norm$/, 'diff'],
  [/\.(diff_b|b_norm)$/, 'diff_b'],
  [/\.on_input$/, 'on_input'],
  [/\.weight$/, 'weight'],
]

const PREFIXES: readonly (readonly [RegExp, Component])[] = [
  [/^lora_unet[._]/, 'unet'],
  [/^lora_te1?[._]/, 'text-1'],
  [/^lora_te2[._]/, 'text-2'],
  [/^(base_model\.model\.)?(model\.)?diffusion_model\./, 'unet'],
  [/^lycoris_(unet_)?(?!te)/, 'unet'],
  [/^unet\.(base_model\.model\.)?/, 'unet'],
  [/^text_encoders?(\.clip_l(\.transformer)?)?\.(base_model\.model\.)?/, 'text-1'],
  [/^(text_encoder_2|text_encoders\.clip_g(\.transformer)?)\.(base_model\.model\.)?/, 'text-2'],
]

/** The tensors by layer, and those whose names say nothing that is known. */
export function groupTensors(tensors: ReadonlyMap<string, StoredTensor>): {
  groups: Group[]
  unknown: string[]
} {
  const groups = new Map<string, Group>()
  const unknown: string[] = []
  for (const [name, tensor] of tensors) {
    const role = roleOf(name)
    if (!role) {
      unknown.push(name)
      continue
    }
    const stem = name.slice(0, name.length - role.ending.length)
    // The text encoder's prefix is a beginning of the second one's, so the longer match counts.
    const prefix = PREFIXES.map(([pattern, component]) => ({ match: pattern.exec(stem), component }))
      .filter(({ match }) => match !== null)
      .sort((a, b) => b.match![0].length - a.match![0].length)
      .at(0)
    const layer = stem.slice(prefix?.match![0].length ?? 0).replace(/^base_model\.model\./, '')
    // diffusers once kept LoRA layers in attention processors: attn1.processor.to_q_lora.
    const key = layer.replace(/\.processor\.(to_\w+)$/, '.$1').replace(/[.]/g, '_')
    const id = `${prefix?.component} ${key}`
    let group = groups.get(id)
    if (!group) groups.set(id, (group = { component: prefix?.component, layer, key, tensors: new Map() }))
    group.tensors.set(role.role, tensor)
  }
  return { groups: [...groups.values()], unknown }
}

function roleOf(name: string): { role: Role; ending: string } | undefined {
  for (const [pattern, role] of ROLES) {
    const match = pattern.exec(name)
    // LyCORIS' endings are the names of the roles.
    if (match) return { role: role === 'hada_w1_a' ? (match[1] as Role) : role, ending: match[0] }
  }
  return undefined
}
