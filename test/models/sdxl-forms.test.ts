/** One small SDXL of random weights in the forms in which people share it computes the same in each of them. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openModel, type ModelDescription } from '../../lib/models/index.js'
import { CONFIG_KEY, writeStoredConfig } from '../../lib/models/families/stored-config.js'
import { withParts } from '../../lib/models/parts.js'
import { native, type TextEncoderConfig, type UnetConfig, type VaeConfig } from '../../lib/native.js'
import {
  ggufBytes,
  pair,
  randomizer,
  safetensorsBytes,
  stringPair,
  u32,
  u64,
} from '../model-files/helpers.js'
import {
  originalUnetName,
  originalVaeName,
  textShapes,
  unetShapes,
  vaeShapes,
  type Shapes,
} from '../model-files/models.js'
import { difference } from './compute.js'

native().setThreads(2)

// The widths by which files are recognized, with few layers.
const CLIP_L: TextEncoderConfig = {
  vocabSize: 50,
  width: 768,
  layers: 2,
  heads: 12,
  intermediate: 32,
  maxPositions: 8,
  activation: 'quick_gelu',
  layerNormEps: 1e-5,
}
const BIG_G: TextEncoderConfig = {
  ...CLIP_L,
  width: 1280,
  heads: 20,
  activation: 'gelu',
  projectionWidth: 1280,
}
// prettier-ignore
const UNET: UnetConfig = {
  inChannels: 4, outChannels: 4, blockChannels: [64, 128], layersPerBlock: [1, 1], downTransformerDepth: [0, 2], upTransformerDepth: [0, 2],
  midTransformerDepth: 1, heads: [1, 2], contextWidth: 2048, normGroups: 32, normEps: 1e-5, flipSinToCos: true, freqShift: 0,
  added: { width: 2816, timeWidth: 256 },
}
// prettier-ignore
const VAE: VaeConfig = {
  inChannels: 3, outChannels: 3, latentChannels: 4, blockChannels: [32, 64], layersPerBlock: 1, normGroups: 32, midAttention: true,
  quantConv: true, postQuantConv: true,
}

interface Stored {
  shape: number[]
  data: Float32Array
}
type Weights = Record<string, Stored>

/** Uniform values, scaled so that activations stay moderate. */
function randomWeights(shapes: Shapes, seed: number): Weights {
  const random = randomizer(seed)
  const weights: Weights = {}
  for (const [name, shape] of shapes) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
    const scale = shape.length > 1 ? 2 / Math.sqrt(data.length / shape[0]) : 0.2
    const offset = shape.length === 1 && name.endsWith('weight') ? 1 : 0
    for (let i = 0; i < data.length; i++) data[i] = offset + scale * (random(1024) / 512 - 1)
    weights[name] = { shape, data }
  }
  return weights
}

const renamed = (weights: Weights, rename: (name: string) => string): Weights =>
  Object.fromEntries(Object.entries(weights).map(([name, value]) => [rename(name), value]))

function transposed({ shape: [rows, columns], data }: Stored): Stored {
  const out = new Float32Array(data.length)
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) out[j * rows + i] = data[i * columns + j]
  return { shape: [columns, rows], data: out }
}

function stacked(parts: Stored[]): Stored {
  const data = new Float32Array(parts.length * parts[0].data.length)
  for (const [i, part] of parts.entries()) data.set(part.data, i * part.data.length)
  return { shape: [parts.length * parts[0].shape[0], ...parts[0].shape.slice(1)], data }
}

/** OpenCLIP's text encoder under its own names: query, key and value in one, and the projection transposed. */
function openClip(weights: Weights): Weights {
  const out: Weights = {
    'token_embedding.weight': weights['embeddings.token_embedding.weight'],
    positional_embedding: weights['embeddings.position_embedding.weight'],
    'ln_final.weight': weights['final_layer_norm.weight'],
    'ln_final.bias': weights['final_layer_norm.bias'],
    text_projection: transposed(weights['text_projection.weight']),
  }
  for (let i = 0; i < BIG_G.layers; i++) {
    const [from, to] = [`encoder.layers.${i}.`, `transformer.resblocks.${i}.`]
    for (const leaf of ['weight', 'bias']) {
      out[`${to}attn.in_proj_${leaf}`] = stacked(
        ['q', 'k', 'v'].map((part) => weights[`${from}self_attn.${part}_proj.${leaf}`]),
      )
      for (const [a, b] of [
        ['self_attn.out_proj', 'attn.out_proj'],
        ['layer_norm1', 'ln_1'],
        ['layer_norm2', 'ln_2'],
        ['mlp.fc1', 'mlp.c_fc'],
        ['mlp.fc2', 'mlp.c_proj'],
      ])
        out[`${to}${b}.${leaf}`] = weights[`${from}${a}.${leaf}`]
    }
  }
  return out
}

/** The same encoder as stable-diffusion.cpp names it: transformers' names, but fused and transposed. */
function fusedClip(weights: Weights): Weights {
  const prefix = 'cond_stage_model.1.transformer.text_model.'
  const out: Weights = {}
  for (const [name, value] of Object.entries(weights)) {
    const part = /^(.*self_attn\.)([qkv])_proj\.(weight|bias)$/.exec(name)
    if (name === 'text_projection.weight') out[`${prefix}text_projection`] = transposed(value)
    else if (!part) out[prefix + name] = value
    else if (part[2] === 'q')
      out[`${prefix}${part[1]}in_proj.${part[3]}`] = stacked(
        ['q', 'k', 'v'].map((p) => weights[`${part[1]}${p}_proj.${part[3]}`]),
      )
  }
  return out
}

/** The autoencoder's attention as 1×1 convolutions. */
const asConvolutions = (weights: Weights): Weights =>
  Object.fromEntries(
    Object.entries(weights).map(([name, value]) => [
      name,
      name.includes('attentions') && value.shape.length === 2
        ? { ...value, shape: [...value.shape, 1, 1] }
        : value,
    ]),
  )

const bytesOf = ({ data }: Stored) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)

function writeSafetensors(
  path: string,
  weights: Weights,
  metadata?: Record<string, string>,
  more: Buffer[] = [],
) {
  let end = 0
  const header: Record<string, unknown> = metadata ? { __metadata__: metadata } : {}
  for (const [name, { shape, data }] of Object.entries(weights))
    header[name] = { dtype: 'F32', shape, data_offsets: [end, (end += data.byteLength)] }
  for (const bytes of more)
    header[`conditioner.embedders.0.transformer.text_model.embeddings.position_ids`] = {
      dtype: 'I64',
      shape: [1, bytes.length / 8],
      data_offsets: [end, (end += bytes.length)],
    }
  writeFileSync(
    path,
    Buffer.concat([safetensorsBytes(header), ...Object.values(weights).map(bytesOf), ...more]),
  )
  return path
}

function writeGguf(path: string, weights: Weights, pairs: Buffer[] = []) {
  const stored = Object.fromEntries(
    Object.entries(weights).map(([name, { shape }]) => [name, { shape, type: 0 }]),
  )
  const data = Object.values(weights).flatMap((value) => {
    const bytes = bytesOf(value)
    return [bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32)]
  })
  writeFileSync(path, Buffer.concat([ggufBytes(stored, { pairs }).head, ...data]))
  return path
}

const inputs = {
  latents: Float32Array.from({ length: 4 * 8 * 8 }, (_, i) => Math.sin(i)),
  tokens: Int32Array.from([1, 7, 9, 30, 49, 2, 2, 2]),
}

/** What each component computes, in float32. */
async function compute({ unet, vae, textEncoders }: ModelDescription) {
  const [first, second] = textEncoders
  for (const part of [unet, vae, first, second]) part!.source.precision = 'f32'
  const outputs: Float32Array[] = []
  for (const [i, { config, source, skip, finalNorm }] of [first, second].entries()) {
    const encoder = await native().loadTextEncoder(config, source)
    const call = { tokens: inputs.tokens, n: 1, length: 8, skip, finalNorm }
    outputs.push(await encoder.encode(i === 0 ? call : { ...call, pooledPositions: Int32Array.of(5) }))
    await encoder.dispose()
  }
  const net = await native().loadUnet(unet!.config, unet!.source)
  const context = Float32Array.from({ length: 3 * 2048 }, (_, i) => Math.cos(i))
  const conditioning = {
    timesteps: Float32Array.of(500),
    context,
    contextLength: 3,
    pooled: context.slice(0, 1280),
    pooledWidth: 1280,
    timeIds: Float32Array.of(64, 64, 0, 0, 64, 64),
    timeIdCount: 6,
  }
  outputs.push(await net.predict({ latents: inputs.latents, n: 1, h: 8, w: 8, conditioning }))
  await net.dispose()
  const autoencoder = await native().loadVae(vae!.config, vae!.source)
  outputs.push(await autoencoder.decode(inputs.latents, 1, 8, 8, null))
  await autoencoder.dispose()
  return outputs
}

t.test('a small SDXL in every form', async (t) => {
  const dir = t.testdir({})
  const unet = randomWeights(unetShapes(UNET), 1)
  const vae = randomWeights(vaeShapes(VAE), 2)
  const first = randomWeights(textShapes(CLIP_L), 3)
  const second = randomWeights(textShapes(BIG_G), 4)
  const original = (name: string) => `model.diffusion_model.${originalUnetName(name, UNET)}`
  const originalVae = renamed(asConvolutions(vae), (name) => `first_stage_model.${originalVaeName(name, 2)}`)

  const checkpoint = writeSafetensors(
    join(dir, 'sdxl.safetensors'),
    {
      ...renamed(unet, original),
      ...originalVae,
      ...renamed(first, (name) => `conditioner.embedders.0.transformer.text_model.${name}`),
      ...renamed(openClip(second), (name) => `conditioner.embedders.1.model.${name}`),
      // What trainers leave behind.
      'model_ema.diffusion_modelinput_blocks00weight': { shape: [1], data: Float32Array.of(9) },
      'denoiser.sigmas': { shape: [2], data: Float32Array.of(1, 2) },
    },
    undefined,
    [Buffer.alloc(8 * 8)],
  )
  const model = await openModel(checkpoint)
  t.same(model.unet!.config, UNET)
  t.same(model.textEncoders[1].config, { ...BIG_G, projectionTransposed: true })

  // Canonical names and a stored configuration: nothing is derived, fused or transposed.
  const described: ModelDescription = {
    ...model,
    textEncoders: model.textEncoders.map((encoder, i) => ({ ...encoder, config: i === 0 ? CLIP_L : BIG_G })),
  }
  const reference = writeSafetensors(
    join(dir, 'reference.safetensors'),
    {
      ...renamed(unet, (name) => `unet.${name}`),
      ...renamed(vae, (name) => `vae.${name}`),
      ...renamed(first, (name) => `text_encoder.${name}`),
      ...renamed(second, (name) => `text_encoder_2.${name}`),
    },
    { [CONFIG_KEY]: writeStoredConfig(described) },
  )
  const expected = await compute(await openModel(reference))
  t.ok(
    expected.every((output) => output.every(Number.isFinite) && output.some((x) => Math.abs(x) > 0.1)),
    'the model computes something',
  )
  const same = async (model: ModelDescription, name: string) => {
    for (const [i, output] of (await compute(model)).entries()) {
      const { error, scale } = difference(output, expected[i])
      t.ok(error <= 1e-5 * scale, `${name}, output ${i}: ${error} of ${scale}`)
    }
  }
  await same(model, 'original names')

  const native = writeGguf(join(dir, 'sd-cpp.gguf'), {
    ...renamed(unet, original),
    ...originalVae,
    ...renamed(first, (name) => `cond_stage_model.transformer.text_model.${name}`),
    ...fusedClip(second),
  })
  await same(await openModel(native), 'stable-diffusion.cpp')

  // The UNet alone, without a prefix; kernels flat, with their shapes as metadata.
  const pairs = [stringPair('general.architecture', 'sdxl')]
  const flat: Weights = {}
  for (const [name, value] of Object.entries(renamed(unet, (name) => originalUnetName(name, UNET)))) {
    const rearranged = value.shape.length === 4 && value.data.length % 256 === 0
    flat[name] = rearranged ? { ...value, shape: [value.data.length / 256, 256] } : value
    const lengths = Buffer.concat(value.shape.map((length) => u32(length)))
    if (rearranged)
      pairs.push(
        pair(`comfy.gguf.orig_shape.${name}`, 9, Buffer.concat([u32(5), u64(value.shape.length), lengths])),
      )
  }
  t.ok(pairs.length > 5)
  const alone = await openModel(writeGguf(join(dir, 'city96.gguf'), flat, pairs))
  t.same([alone.vae, alone.textEncoders], [undefined, []])
  t.equal(alone.architecture, 'Stable Diffusion XL')
  const whole = await withParts(alone, { vae: checkpoint, textEncoders: [checkpoint] }, async (path) => path)
  t.equal(whole.vae!.scalingFactor, 0.13025)
  await same(whole, 'ComfyUI-GGUF, with parts of the checkpoint')
})
