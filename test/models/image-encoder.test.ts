/** Image encoders and their preprocessing compared with transformers (tools/fixtures/vision.py). */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { DiffusionPipeline, ImageEncoder } from '../../lib/index.js'
import { openImageEncoder } from '../../lib/models/image-encoder.js'
import { native } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import {
  count,
  fuzz,
  ggufBytes,
  randomizer,
  safetensorsBytes,
  safetensorsHeader,
} from '../model-files/helpers.js'
import { difference } from './compute.js'
import { readTensors } from './fixtures.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'vision')
const golden = readTensors(join(fixtures, 'golden.safetensors'))
const photos = ['wide', 'tall', 'square', 'small', 'exact']

const root = mkdtempSync(join(tmpdir(), 'node-diffusion-vision-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

for (const name of ['clip', 'open-clip']) {
  t.test(`${name} gives what transformers gives`, async (t) => {
    await using encoder = await ImageEncoder.load(join(fixtures, name), { precision: 'f32' })
    for (const photo of photos) {
      const expected = (key: string) => golden.get(`${name}/${photo}/${key}`)!
      const pixels = await encoder.preprocess(join(fixtures, `${photo}.png`))
      t.strictSame(pixels.shape, expected('pixels').shape)
      const exact = difference(pixels.data, expected('pixels').data)
      t.ok(exact.error <= 1e-6, `${photo}: the same pixels as with Pillow (${exact.error})`)
      for (const [key, found] of [
        ['embedding', await encoder.encode(pixels)],
        ['hidden', await encoder.hiddenStates(pixels)],
      ] as const) {
        t.strictSame(found.shape, expected(key).shape)
        const { error, scale } = difference(found.data, expected(key).data)
        t.ok(error <= 1e-4 * scale, `${photo}: ${key} ${error} of ${scale}`)
      }
    }
  })
}

t.test('several images, tensors and images in memory', async (t) => {
  await using encoder = await ImageEncoder.load(join(fixtures, 'clip'), { precision: 'f32' })
  const files = photos.map((photo) => join(fixtures, `${photo}.png`))
  const pixels = await encoder.preprocess(files)
  t.strictSame(pixels.shape, [5, 3, 28, 28])
  const all = await encoder.encode(pixels)
  for (const [i, photo] of photos.entries()) {
    const expected = golden.get(`clip/${photo}/embedding`)!
    const { error, scale } = difference(all.data.subarray(i * 20, (i + 1) * 20), expected.data)
    t.ok(error <= 1e-4 * scale, `${photo} among others`)
  }
  const { data, info } = await sharp(files[2]).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  const planes = Float32Array.from({ length: data.length }, (_, i) => {
    const [channel, pixel] = [Math.floor(i / (info.width * info.height)), i % (info.width * info.height)]
    return data[pixel * 3 + channel] / 127.5 - 1
  })
  const tensor = { data: planes, shape: [1, 3, info.height, info.width] }
  const square = golden.get('clip/square/pixels')!.data
  for (const image of [tensor, readFileSync(files[2])])
    t.ok(difference((await encoder.preprocess(image)).data, square).error <= 1e-6)
  t.ok(encoder.workingBytes() > 0)
})

t.test('preprocessor_config.json has other statistics', async (t) => {
  const folder = join(root, 'statistics')
  cpSync(join(fixtures, 'clip'), join(folder, 'image_encoder'), { recursive: true })
  mkdirSync(join(folder, 'feature_extractor'))
  const file = join(folder, 'feature_extractor', 'preprocessor_config.json')
  writeFileSync(file, JSON.stringify({ image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] }))
  await using encoder = await ImageEncoder.load(folder)
  const { data } = await encoder.preprocess(join(fixtures, 'square.png'))
  t.ok(data.every((x) => Math.abs(x) <= 1))
  writeFileSync(file, JSON.stringify({ image_std: [0.5, 0, 0.5] }))
  await t.rejects(ImageEncoder.load(folder), { code: 'MODEL_FORMAT', message: /image_std/ })
})

/** The tensors of an encoder whose file tells its configuration, with the same numbers in every run. */
function tensorsOf(): Map<string, { shape: number[]; data: Float32Array }> {
  const config = {
    ...{ imageSize: 12, patchSize: 4, channels: 3, width: 64, layers: 2, heads: 1, intermediate: 96 },
    ...({ activation: 'quick_gelu', layerNormEps: 1e-5, projectionWidth: 32 } as const),
  }
  const random = randomizer(7)
  return new Map(
    native()
      .requiredTensors('imageEncoder', config)
      .map(({ name, shape }) => {
        const norm = /norm.*weight$/.test(name) ? 1 : 0
        const data = Float32Array.from({ length: count(shape) }, () => norm + (random(2001) - 1000) / 5000)
        return [name, { shape, data }]
      }),
  )
}

type Stored = Map<string, { shape: number[]; data: Float32Array }>

function writeFloats(path: string, tensors: Stored): string {
  const header = safetensorsHeader(
    Object.fromEntries([...tensors].map(([name, { shape }]) => [name, { shape, type: 'F32' }])),
  )
  const data = [...tensors.values()].map((tensor) => Buffer.from(tensor.data.buffer))
  writeFileSync(path, Buffer.concat([safetensorsBytes(header.header), ...data]))
  return path
}

/** OpenCLIP's names: fused attention, and the projection transposed. */
function openClipNames(tensors: Stored, prefix: string): Stored {
  const renamed: Stored = new Map()
  const fused = new Map<string, { shape: number[]; data: Float32Array }[]>()
  for (const [name, tensor] of tensors) {
    const attention = /^encoder\.layers\.(\d+)\.self_attn\.[qkv]_proj\.(weight|bias)$/.exec(name)
    if (attention) {
      const key = `transformer.resblocks.${attention[1]}.attn.in_proj_${attention[2]}`
      fused.set(key, [...(fused.get(key) ?? []), tensor])
    } else if (name === 'visual_projection.weight') {
      const [rows, columns] = tensor.shape
      const data = tensor.data.map((_, i) => tensor.data[(i % rows) * columns + Math.floor(i / rows)])
      renamed.set(`${prefix}proj`, { shape: [columns, rows], data })
    } else {
      const short = name
        .replace('embeddings.patch_embedding', 'conv1')
        .replace('embeddings.position_embedding.weight', 'positional_embedding')
        .replace('embeddings.', '')
        .replace('pre_layrnorm', 'ln_pre')
        .replace('post_layernorm', 'ln_post')
        .replace('encoder.layers', 'transformer.resblocks')
        .replace('layer_norm', 'ln_')
        .replace('self_attn', 'attn')
        .replace('mlp.fc1', 'mlp.c_fc')
        .replace('mlp.fc2', 'mlp.c_proj')
      renamed.set(prefix + short, tensor)
    }
  }
  for (const [key, parts] of fused) {
    const [{ shape }] = parts
    const data = Float32Array.from(parts.flatMap((part) => [...part.data]))
    renamed.set(prefix + key, { shape: [3 * shape[0], ...shape.slice(1)], data })
  }
  return renamed
}

/** Matrices whose rows fill blocks as q8_0. */
async function writeQuantized(path: string, tensors: Stored): Promise<string> {
  const types: Record<string, { shape: number[]; type: number }> = {}
  const parts: Buffer[] = []
  for (const [name, { shape, data }] of tensors) {
    const quantized = shape.length === 2 && shape[1] % 32 === 0 && !name.includes('embedding')
    types[name] = { shape, type: quantized ? 8 : 0 }
    let bytes = Buffer.from(data.buffer)
    if (quantized) {
      const file = join(root, 'one.safetensors')
      writeFloats(file, new Map([['one', { shape, data }]]))
      const offset = statSync(file).size - bytes.length
      const entry = { name: 'one', type: 'f32', shape, file: 0, offset, bytes: bytes.length } as const
      const rows = await native().convertRows({ files: [file], tensors: [entry] }, 'q8_0', false, 0, shape[0])
      bytes = Buffer.from(rows.bytes)
    }
    parts.push(bytes, Buffer.alloc((32 - (bytes.length % 32)) % 32))
  }
  writeFileSync(path, Buffer.concat([ggufBytes(types).head, ...parts]))
  return path
}

t.test('files under every name give the same, and quantized ones nearly', async (t) => {
  const tensors = tensorsOf()
  const prefixed: Stored = new Map(
    [...tensors].map(([name, tensor]) => [name.startsWith('visual') ? name : `vision_model.${name}`, tensor]),
  )
  const pixels = {
    data: Float32Array.from({ length: 3 * 12 * 12 }, (_, i) => Math.sin(i)),
    shape: [1, 3, 12, 12],
  }
  const encode = async (file: string, precision: 'f32' | 'auto') => {
    await using encoder = await ImageEncoder.load(file, { precision })
    t.equal(encoder.config.heads, 1)
    return (await encoder.encode(pixels)).data
  }
  const plain = await encode(writeFloats(join(root, 'plain.safetensors'), prefixed), 'f32')
  t.ok(plain.some((x) => Math.abs(x) > 0.1))
  for (const [name, stored] of [
    ['bare', tensors],
    ['image_encoder', new Map([...prefixed].map(([key, tensor]) => [`image_encoder.${key}`, tensor]))],
    ['visual', openClipNames(tensors, 'visual.')],
    ['embedder', openClipNames(tensors, 'embedder.model.visual.')],
  ] as [string, Stored][]) {
    const found = await encode(writeFloats(join(root, `${name}.safetensors`), stored), 'f32')
    t.ok(difference(found, plain).error <= 1e-5, `${name}: the same`)
  }
  const quantized = await encode(await writeQuantized(join(root, 'small.gguf'), prefixed), 'auto')
  const { error, scale } = difference(quantized, plain)
  t.ok(error > 0 && error < 0.05 * scale, `q8_0: ${error} of ${scale}`)
})

t.test('what is no image encoder is named', async (t) => {
  const refused = async (path: string, message: RegExp) =>
    t.rejects(ImageEncoder.load(path), { name: 'DiffusionError', message })
  await refused(
    join(packageRoot(), 'test/fixtures/models/clip/text_encoder'),
    /expected CLIPVisionModelWithProjection/,
  )
  await refused(root, /expected config.json or image_encoder\/config.json/)
  const file = (name: string) => join(root, name)
  const unet = new Map([['conv_in.weight', { shape: [2, 2], data: new Float32Array(4) }]])
  await refused(
    writeFloats(file('unet.safetensors'), unet),
    /expected the tensors of a CLIP image encoder, found "conv_in/,
  )
  const positions = tensorsOf()
  positions.set('embeddings.position_embedding.weight', { shape: [7, 64], data: new Float32Array(7 * 64) })
  await refused(writeFloats(file('positions.safetensors'), positions), /positions of a square image/)
  const missing = tensorsOf()
  missing.delete('pre_layrnorm.bias')
  await refused(writeFloats(file('missing.safetensors'), missing), /tensor pre_layrnorm.bias .* is missing/)
  for (const path of [join(fixtures, 'clip'), join(fixtures, 'open-clip', 'model.safetensors')])
    await t.rejects(DiffusionPipeline.load(path), {
      code: 'UNSUPPORTED_MODEL',
      message: /this is a CLIP image encoder and no model: ImageEncoder.load\(\) takes it/,
    })
  await t.rejects(ImageEncoder.load(3 as never), TypeError)
  await using encoder = await ImageEncoder.load(join(fixtures, 'clip'))
  await t.rejects(encoder.preprocess([]), RangeError)
  await t.rejects(encoder.preprocess(3 as never), TypeError)
  await t.rejects(encoder.encode({ data: new Float32Array(3), shape: [1, 3, 1, 1] }), RangeError)
  await t.rejects(
    encoder.hiddenStates({ data: new Float32Array(2352), shape: [1, 3, 28, 28] }, { skip: 9 }),
    RangeError,
  )
  await encoder.dispose()
  await t.rejects(encoder.preprocess(file('gone.png')), { code: 'IO' })
  await t.rejects(encoder.encode({ data: new Float32Array(2352), shape: [1, 3, 28, 28] }), {
    code: 'DISPOSED',
  })
})

t.test('damaged headers end in clear errors', async (t) => {
  const path = writeFloats(join(root, 'fuzzed.safetensors'), tensorsOf())
  const bytes = readFileSync(path)
  const header = 8 + Number(bytes.readBigUInt64LE(0))
  await fuzz(
    t,
    bytes.subarray(0, header),
    bytes.length - header,
    200,
    join(root, 'damaged.safetensors'),
    openImageEncoder,
  )
})
