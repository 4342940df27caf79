import type { TextEncoderConfig, UnetConfig, VaeConfig } from '../native.js'

/** Every tensor of a component under its canonical name, with its shape in torch order. */
export type Layout = Map<string, number[]>

class Builder {
  readonly layout: Layout = new Map()

  /** A linear layer or convolution: shape of the weight, then a bias of its first dimension. */
  affine(name: string, shape: number[], bias = true): void {
    this.layout.set(`${name}.weight`, shape)
    if (bias) this.layout.set(`${name}.bias`, [shape[0]])
  }

  norm(name: string, channels: number): void {
    this.affine(name, [channels])
  }

  conv(name: string, inputs: number, outputs: number, kernel = 3): void {
    this.affine(name, [outputs, inputs, kernel, kernel])
  }

  linear(name: string, inputs: number, outputs: number, bias = true): void {
    this.affine(name, [outputs, inputs], bias)
  }

  /** Two convolutions and a way around them; `time`: width of the timestep embedding added between them. */
  resnet(name: string, inputs: number, outputs: number, time?: number): void {
    this.norm(`${name}.norm1`, inputs)
    this.conv(`${name}.conv1`, inputs, outputs)
    if (time !== undefined) this.linear(`${name}.time_emb_proj`, time, outputs)
    this.norm(`${name}.norm2`, outputs)
    this.conv(`${name}.conv2`, outputs, outputs)
    if (inputs !== outputs) this.conv(`${name}.conv_shortcut`, inputs, outputs, 1)
  }
}

/** UNet2DConditionModel. */
export function unetLayout(config: UnetConfig): Layout {
  const b = new Builder()
  const channels = config.blockChannels
  const levels = channels.length
  const time = 4 * channels[0]

  b.conv('conv_in', config.inChannels, channels[0])
  b.linear('time_embedding.linear_1', channels[0], time)
  b.linear('time_embedding.linear_2', time, time)

  // Channels that the way down leaves for the way up, which takes them from the back.
  const skips = [channels[0]]
  let width = channels[0]
  for (let level = 0; level < levels; level++) {
    const prefix = `down_blocks.${level}`
    for (let i = 0; i < config.layersPerBlock[level]; i++) {
      b.resnet(`${prefix}.resnets.${i}`, width, channels[level], time)
      width = channels[level]!
      skips.push(width)
      attention(b, `${prefix}.attentions.${i}`, width, config.downTransformerDepth[level], config)
    }
    if (level + 1 < levels) {
      b.conv(`${prefix}.downsamplers.0.conv`, width, width)
      skips.push(width)
    }
  }

  if (config.midTransformerDepth >= 0) {
    b.resnet('mid_block.resnets.0', width, width, time)
    attention(b, 'mid_block.attentions.0', width, config.midTransformerDepth, config)
    // Without attention diffusers builds the middle of one residual block.
    if (config.midTransformerDepth > 0) b.resnet('mid_block.resnets.1', width, width, time)
  }

  for (let block = 0; block < levels; block++) {
    const level = levels - 1 - block
    const prefix = `up_blocks.${block}`
    for (let i = 0; i <= config.layersPerBlock[level]; i++) {
      b.resnet(`${prefix}.resnets.${i}`, width + skips.pop()!, channels[level], time)
      width = channels[level]!
      attention(b, `${prefix}.attentions.${i}`, width, config.upTransformerDepth[level], config)
    }
    if (level > 0) b.conv(`${prefix}.upsamplers.0.conv`, width, width)
  }

  b.norm('conv_norm_out', width)
  b.conv('conv_out', width, config.outChannels)
  return b.layout
}

/** SpatialTransformer: `depth` blocks of self-attention, cross-attention and a gated feed-forward of 4 times the width. */
function attention(b: Builder, name: string, channels: number, depth: number, config: UnetConfig): void {
  if (depth === 0) return
  const project = (part: string) =>
    config.linearProjection
      ? b.linear(`${name}.${part}`, channels, channels)
      : b.conv(`${name}.${part}`, channels, channels, 1)
  b.norm(`${name}.norm`, channels)
  project('proj_in')
  for (let i = 0; i < depth; i++) {
    const block = `${name}.transformer_blocks.${i}`
    // prettier-ignore
    for (const [part, context] of [['attn1', channels], ['attn2', config.contextWidth]] as const) {
      b.linear(`${block}.${part}.to_q`, channels, channels, false)
      b.linear(`${block}.${part}.to_k`, context, channels, false)
      b.linear(`${block}.${part}.to_v`, context, channels, false)
      b.linear(`${block}.${part}.to_out.0`, channels, channels)
    }
    b.linear(`${block}.ff.net.0.proj`, channels, 8 * channels)
    b.linear(`${block}.ff.net.2`, 4 * channels, channels)
    for (const norm of ['norm1', 'norm2', 'norm3']) b.norm(`${block}.${norm}`, channels)
  }
  project('proj_out')
}

/** AutoencoderKL, or VQModel where there is a codebook. */
export function vaeLayout(config: VaeConfig): Layout {
  const b = new Builder()
  const channels = config.blockChannels
  const last = channels.length - 1
  const { latentChannels: latent, codebook } = config

  const middle = (side: string) => {
    const width = channels[last]
    b.resnet(`${side}.mid_block.resnets.0`, width, width)
    b.resnet(`${side}.mid_block.resnets.1`, width, width)
    if (!config.midAttention) return
    b.norm(`${side}.mid_block.attentions.0.group_norm`, width)
    for (const part of ['to_q', 'to_k', 'to_v', 'to_out.0']) {
      b.linear(`${side}.mid_block.attentions.0.${part}`, width, width)
    }
  }

  b.conv('encoder.conv_in', config.inChannels, channels[0])
  let width = channels[0]
  for (let level = 0; level <= last; level++) {
    const prefix = `encoder.down_blocks.${level}`
    for (let i = 0; i < config.layersPerBlock; i++) {
      b.resnet(`${prefix}.resnets.${i}`, width, channels[level])
      width = channels[level]!
    }
    if (level < last) b.conv(`${prefix}.downsamplers.0.conv`, width, width)
  }
  middle('encoder')
  b.norm('encoder.conv_norm_out', width)
  b.conv('encoder.conv_out', width, codebook ? latent : 2 * latent)

  if (codebook) b.layout.set('quantize.embedding.weight', [codebook.size, codebook.width])
  if (config.quantConv) {
    if (codebook) b.conv('quant_conv', latent, codebook.width, 1)
    else b.conv('quant_conv', 2 * latent, 2 * latent, 1)
  }
  if (config.postQuantConv) b.conv('post_quant_conv', codebook ? codebook.width : latent, latent, 1)

  b.conv('decoder.conv_in', latent, width)
  middle('decoder')
  for (let block = 0; block <= last; block++) {
    const level = last - block
    const prefix = `decoder.up_blocks.${block}`
    for (let i = 0; i <= config.layersPerBlock; i++) {
      b.resnet(`${prefix}.resnets.${i}`, width, channels[level])
      width = channels[level]!
    }
    if (level > 0) b.conv(`${prefix}.upsamplers.0.conv`, width, width)
  }
  b.norm('decoder.conv_norm_out', width)
  b.conv('decoder.conv_out', width, config.outChannels)
  return b.layout
}

/** CLIP text model. */
export function textLayout(config: TextEncoderConfig): Layout {
  const b = new Builder()
  const { width } = config
  b.layout.set('embeddings.token_embedding.weight', [config.vocabSize, width])
  b.layout.set('embeddings.position_embedding.weight', [config.maxPositions, width])
  for (let i = 0; i < config.layers; i++) {
    const prefix = `encoder.layers.${i}`
    b.norm(`${prefix}.layer_norm1`, width)
    for (const part of ['q_proj', 'k_proj', 'v_proj', 'out_proj'])
      b.linear(`${prefix}.self_attn.${part}`, width, width)
    b.norm(`${prefix}.layer_norm2`, width)
    b.linear(`${prefix}.mlp.fc1`, width, config.intermediate)
    b.linear(`${prefix}.mlp.fc2`, config.intermediate, width)
  }
  b.norm('final_layer_norm', width)
  return b.layout
}
