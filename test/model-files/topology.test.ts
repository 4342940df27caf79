/**
 * Deriving a configuration from the tensors that the engine requires for it gives the same configuration. So derive.ts
 * cannot drift away from the engine's topology.
 */
import {
  native,
  type TextEncoderConfig,
  type TinyVaeConfig,
  type UnetConfig,
  type VaeConfig,
} from '../../lib/native.js'
import type { Tensors } from '../../lib/models/component.js'
import { deriveText, deriveUnet, deriveVae } from '../../lib/models/families/derive.js'
import { deriveTinyVae, isTinyVae } from '../../lib/models/families/tiny-vae.js'
import { randomizer, t } from './helpers.js'
import { shapesOf, TINY_TEXT, TINY_UNET, TINY_VAE, withConvolutions, type Shapes } from './models.js'

function stored(shapes: Shapes): Tensors {
  return new Map(
    [...shapes].map(([name, shape]) => [name, { name, type: 'f16', shape, file: 0, offset: 0, bytes: 0 }]),
  )
}

const derivedUnet = (config: UnetConfig, change = (shapes: Shapes) => shapes) =>
  deriveUnet('file', stored(change(shapesOf('unet', config))))

/** Configurations whose heads and normalization groups follow from the widths. */
// prettier-ignore
const UNETS: Record<string, Partial<UnetConfig>> = {
  'Stable Diffusion 1': { blockChannels: [320, 640, 1280, 1280], layersPerBlock: [2, 2, 2, 2], downTransformerDepth: [1, 1, 1, 0], upTransformerDepth: [1, 1, 1, 0], heads: [8, 8, 8, 8], contextWidth: 768 },
  'Stable Diffusion 2': { blockChannels: [320, 640, 1280, 1280], layersPerBlock: [2, 2, 2, 2], downTransformerDepth: [1, 1, 1, 0], upTransformerDepth: [1, 1, 1, 0], heads: [5, 10, 20, 20], contextWidth: 1024 },
  'inpainting': { inChannels: 9 },
  'image-conditioned': { inChannels: 8 },
  'depths of Stable Diffusion XL': { blockChannels: [320, 640, 1280], downTransformerDepth: [0, 2, 10], upTransformerDepth: [0, 2, 10], midTransformerDepth: 10, contextWidth: 2048 },
  'depths of SSD-1B': { blockChannels: [320, 640, 1280], downTransformerDepth: [0, 2, 4], upTransformerDepth: [0, 2, 4], midTransformerDepth: -1, contextWidth: 2048 },
  'one level': { blockChannels: [64], layersPerBlock: [1], downTransformerDepth: [1], upTransformerDepth: [1], heads: [8] },
  'layers differ': { layersPerBlock: [1, 3, 2] },
  'attention in the decoder alone': { downTransformerDepth: [0, 0, 0], upTransformerDepth: [0, 1, 3], midTransformerDepth: -1 },
  'attention in the encoder alone': { downTransformerDepth: [2, 0, 1], upTransformerDepth: [0, 0, 0] },
  'a middle block without attention': { midTransformerDepth: 0 },
  'Stable Diffusion XL': { blockChannels: [320, 640, 1280], downTransformerDepth: [0, 2, 10], upTransformerDepth: [0, 2, 10], midTransformerDepth: 10, contextWidth: 2048, heads: [5, 10, 20], added: { width: 2816, timeWidth: 256 } },
  'SSD-1B': { blockChannels: [320, 640, 1280], downTransformerDepth: [0, 2, 4], upTransformerDepth: [0, [2, 1, 1], [4, 4, 10]], midTransformerDepth: -1, contextWidth: 2048, heads: [5, 10, 20], added: { width: 2816, timeWidth: 256 } },
  'the ×4 upscaler': { inChannels: 7, classEmbedding: { kind: 'table', count: 1000 }, blockChannels: [256, 512, 512, 1024], layersPerBlock: [2, 2, 2, 2], downTransformerDepth: [0, 1, 1, 1], upTransformerDepth: [0, 1, 1, 1], heads: [8, 8, 8, 8], contextWidth: 1024, onlyCrossAttention: [0, 1, 1, 0] },
  'the ×2 latent upscaler': { inChannels: 8, outChannels: 5, blockChannels: [384, 384, 768, 768], layersPerBlock: [4, 4, 4, 4], downTransformerDepth: [0, 1, 1, 1], upTransformerDepth: [0, 1, 1, 1], midTransformerDepth: -1, heads: [6, 6, 12, 12], contextWidth: 768, normGroups: 1, kBlocks: { headWidth: 64, groupWidth: 32, timeWidth: 768, conditionWidth: 896 } },
  'unCLIP': { contextWidth: 1024, blockChannels: [64, 128, 128], heads: [1, 2, 2], classEmbedding: { kind: 'projection', width: 2048 } },
  'a guidance embedding': { guidanceWidth: 256 },
  'no middle block': { midTransformerDepth: -1 },
  'the same number of channels at all levels': { blockChannels: [64, 64, 64] },
}

t.test('UNets', async (t) => {
  for (const [name, change] of Object.entries(UNETS)) {
    const config = { ...TINY_UNET, ...change }
    t.same(derivedUnet(config), config, name)
    t.same(derivedUnet(config, withConvolutions), config, `${name}, projections as convolutions`)
  }
  const random = randomizer(3)
  for (let round = 0; round < 60; round++) {
    const levels = 1 + random(4)
    const perLevel = (value: () => number) => Array.from({ length: levels }, value)
    const contextWidth = [1024, 8, 77][random(3)]
    const blockChannels = perLevel(() => 64 * (1 + random(3)))
    const layersPerBlock = perLevel(() => 1 + random(3))
    const xl = random(3) === 0
    // One number for all layers, or one for each where they differ.
    const depths = (layers: number): number | number[] => {
      const list = Array.from({ length: random(2) === 0 ? 1 : layers }, () => random(3))
      return list.every((depth) => depth === list[0]) ? list[0] : list
    }
    const inChannels = 1 + random(9)
    const classEmbedding: Partial<UnetConfig> = [{}, {}, { classEmbedding: { kind: 'table', count: 1 + random(1000) } as const }, { classEmbedding: { kind: 'projection', width: 1 + random(2000) } as const }][random(4)] // prettier-ignore
    const wide = xl || (contextWidth === 1024 && !(inChannels === 7 && classEmbedding.classEmbedding?.kind === 'table')) // prettier-ignore
    const config: UnetConfig = {
      ...TINY_UNET,
      inChannels,
      outChannels: 1 + random(8),
      blockChannels,
      layersPerBlock,
      downTransformerDepth: layersPerBlock.map((layers) => depths(layers)),
      upTransformerDepth: layersPerBlock.map((layers) => depths(layers + 1)),
      midTransformerDepth: random(4) - 1,
      heads: blockChannels.map((channels) => (wide ? channels / 64 : 8)),
      contextWidth,
      ...(xl && { added: { width: 1 + random(3000), timeWidth: 256 } }),
      ...(random(4) === 0 && { guidanceWidth: 4 + random(300) }),
      ...classEmbedding,
    }
    const { downTransformerDepth, upTransformerDepth, midTransformerDepth } = config
    if (Math.max(...downTransformerDepth.flat(), ...upTransformerDepth.flat(), midTransformerDepth) <= 0)
      continue
    t.same(derivedUnet(config), config, JSON.stringify(config))
  }
})

t.test('autoencoders', async (t) => {
  // prettier-ignore
  const vaes: Record<string, Partial<VaeConfig>> = {
    'Stable Diffusion': { blockChannels: [128, 256, 512, 512] },
    'one level': { blockChannels: [32] },
    'no attention': { midAttention: false },
    'no quantization convolutions': { quantConv: false, postQuantConv: false },
    'one quantization convolution': { quantConv: false },
    'grey images and eight latent channels': { inChannels: 1, outChannels: 2, latentChannels: 8, layersPerBlock: 3 },
    'a codebook': { latentChannels: 3, codebook: { size: 48, width: 5 } },
    'a codebook without convolutions': { latentChannels: 3, codebook: { size: 48, width: 3 }, quantConv: false, postQuantConv: false },
  }
  for (const [name, change] of Object.entries(vaes)) {
    const config = { ...TINY_VAE, ...change }
    t.same(deriveVae('file', stored(shapesOf('vae', config))), config, name)
  }
})

t.test('tiny autoencoders', async (t) => {
  const taesd: TinyVaeConfig = {
    inChannels: 3,
    outChannels: 3,
    latentChannels: 4,
    width: 64,
    encoderBlocks: [1, 3, 3, 3],
    decoderBlocks: [3, 3, 3, 1],
  }
  for (const change of [
    {},
    { latentChannels: 16 },
    { encoderBlocks: [] },
    { inChannels: 1, outChannels: 4, width: 8, encoderBlocks: [1, 2], decoderBlocks: [2, 1] },
    { encoderBlocks: [2, 0, 1], decoderBlocks: [1, 0, 2] },
    { encoderBlocks: [1], decoderBlocks: [1] },
  ]) {
    const config = { ...taesd, ...change }
    const tensors = stored(shapesOf('tinyVae', config))
    t.ok(isTinyVae(tensors))
    t.same(deriveTinyVae('file', tensors), config, JSON.stringify(change))
  }
})

t.test('text encoders', async (t) => {
  for (const change of [
    {},
    { width: 768, heads: 12, layers: 12, intermediate: 3072, vocabSize: 49408, maxPositions: 77 },
    { width: 1024, heads: 16, activation: 'gelu', intermediate: 65_537 },
    { width: 1280, heads: 20, activation: 'gelu', projectionWidth: 1280 },
    { width: 64, heads: 1, projectionWidth: 24 },
  ] as Partial<TextEncoderConfig>[]) {
    const config = { ...TINY_TEXT, ...change }
    t.same(deriveText('file', stored(shapesOf('textEncoder', config)), false).config, config)
  }
})

t.test('the list of required tensors', async (t) => {
  const { requiredTensors, limits } = native()
  const tensors = requiredTensors('unet', TINY_UNET)
  t.same(new Set(tensors.map(({ name }) => name)).size, tensors.length, 'each tensor once')
  t.match(
    tensors.find(({ name }) => name === 'down_blocks.1.resnets.0.conv_shortcut.weight'),
    { shape: [64, 32, 1, 1] },
  )
  t.throws(() => requiredTensors('unet', { ...TINY_UNET, heads: [8, 7, 8] }), {
    name: 'RangeError',
    message: /heads\[1\] to divide its 64 channels but received 7/,
  })
  t.throws(() => requiredTensors('unet', { ...TINY_UNET, heads: [8] }), {
    name: 'RangeError',
    message: /3 elements/,
  })
  t.throws(
    () => requiredTensors('vae', { ...TINY_VAE, layersPerBlock: limits.layersPerLevel + 1 }),
    RangeError,
  )
  t.throws(() => requiredTensors('vae', {} as never), { name: 'TypeError', message: /config.inChannels/ })
  t.throws(() => requiredTensors('upscaler' as never, {} as never), {
    name: 'RangeError',
    message: /one of textEncoder, unet, .*vae, tinyVae/,
  })
  t.throws(() => requiredTensors('unet', undefined as never), {
    name: 'TypeError',
    message: /object for config/,
  })
})

t.test('TypeScript and the engine have the same limits', async (t) => {
  const { limits, requiredTensors } = native()
  t.ok(Object.isFrozen(limits))
  const widest = { ...TINY_UNET, blockChannels: [limits.channels], layersPerBlock: [1], downTransformerDepth: [1], upTransformerDepth: [1], heads: [1] } // prettier-ignore
  t.ok(requiredTensors('unet', widest).length > 0)
  t.same(derivedUnet({ ...widest, heads: [8] }).blockChannels, [limits.channels])
  t.throws(() => requiredTensors('unet', { ...widest, blockChannels: [limits.channels + 32] }), RangeError)
  const wider = shapesOf('unet', widest)
  for (const [name, shape] of wider) {
    wider.set(name, shape.map((size) => (size === limits.channels ? size + 32 : size))) // prettier-ignore
  }
  t.throws(() => deriveUnet('file', stored(wider)), { code: 'MODEL_FORMAT', message: /from 1 to 32768/ })
})
