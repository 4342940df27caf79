/** The parts of a model in the report, in their order. */
export const GROUPS = [
  'text encoder embeddings',
  'text encoder attention',
  'text encoder feed-forward',
  'unet in, out, time',
  'unet down convolution',
  'unet down attention',
  'unet down feed-forward',
  'unet mid convolution',
  'unet mid attention',
  'unet mid feed-forward',
  'unet up convolution',
  'unet up attention',
  'unet up feed-forward',
  'control net in, out, time',
  'control net convolution',
  'control net attention',
  'control net feed-forward',
  'image encoder',
  'vae encoder',
  'vae codebook',
  'vae decoder',
] as const

export type Group = (typeof GROUPS)[number]

/** @param name a canonical name with its component: `unet.mid_block.attentions.0.proj_in.weight` */
export function groupOf(name: string): Group {
  const [component, part = ''] = name.split('.')
  if (component === 'vae') {
    if (part === 'quantize') return 'vae codebook'
    return part === 'encoder' || part === 'quant_conv' ? 'vae encoder' : 'vae decoder'
  }
  if (component.startsWith('text_encoder')) {
    if (part === 'embeddings' || part === 'text_projection') return 'text encoder embeddings'
    return name.includes('.mlp.') ? 'text encoder feed-forward' : 'text encoder attention'
  }
  if (component === 'image_encoder') return 'image encoder'
  if (component === 'control_net') {
    if (!/^(down|mid)_block/.test(part)) return 'control net in, out, time'
    if (!name.includes('.attentions.')) return 'control net convolution'
    return name.includes('.ff.') ? 'control net feed-forward' : 'control net attention'
  }
  const side = /^(down|mid|up)_block/.exec(part)?.[1] as 'down' | 'mid' | 'up' | undefined
  if (!side) return 'unet in, out, time'
  if (!name.includes('.attentions.')) return `unet ${side} convolution`
  return name.includes('.ff.') ? `unet ${side} feed-forward` : `unet ${side} attention`
}
