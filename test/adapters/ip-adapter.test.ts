/** Pictures with IP-Adapters compared with those of diffusers (tools/fixtures/ip_adapter.py). */
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import {
  DiffusionPipeline,
  ImageEncoder,
  quantizeModel,
  type GenerateOptions,
  type ImageInput,
  type ImagePromptOptions,
  type LoadOptions,
  type Tensor,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { writeSafetensors } from '../model-files/helpers.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { base, nets, root, type Family } from './control-models.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'ip-adapter')
const encoderOf = (name: string) => join(fixtures, '..', 'vision', name)

type Options = GenerateOptions & { imagePrompts: ImagePromptOptions[] }

interface Case {
  name: string
  family: Family
  adapters: string[]
  encoder: string | null
  options: Options
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }
const named = (family: Family, name: string) =>
  cases.find((one) => one.family === family && one.name === name)!

function load(
  { family, adapters, encoder, options }: Pick<Case, 'family' | 'adapters' | 'encoder' | 'options'>,
  more: LoadOptions = {},
): Promise<DiffusionPipeline> {
  return DiffusionPipeline.load(base[family], {
    precision: 'f32',
    ipAdapters: adapters.map((name) => ({
      path: join(fixtures, name),
      ...(encoder !== null && { imageEncoder: encoderOf(encoder) }),
    })),
    ...(options.controls && { controlNets: [nets('sd1')[0]] }),
    ...more,
  })
}

const inside = (image: ImageInput) => (typeof image === 'string' ? join(fixtures, image) : image)

function optionsOf({ options }: Case): Options {
  const given = { ...options, weighting: false }
  if (given.image) given.image = inside(given.image)
  if (given.controls) given.controls = given.controls.map((one) => ({ ...one, image: inside(one.image) }))
  given.imagePrompts = given.imagePrompts.map(({ image, mask, embeds, ...one }) => ({
    ...one,
    ...(image !== undefined && {
      image: Array.isArray(image) ? (image as ImageInput[]).map(inside) : inside(image as ImageInput),
    }),
    ...(mask !== undefined && { mask: inside(mask) }),
    ...(embeds && { embeds: { ...embeds, data: Float32Array.from(embeds.data) } }),
  }))
  return given
}

const pixels = async (file: string) => sharp(join(fixtures, file)).removeAlpha().raw().toBuffer()

for (const family of ['sd1', 'sdxl'] as const) {
  t.test(`pictures with IP-Adapters equal those of diffusers: ${family}`, async (t) => {
    for (const one of cases.filter((one) => one.family === family)) {
      await using pipe = await load(one)
      const { images, warnings } = await pipe.generate(optionsOf(one))
      await equalImages(t, images, one, fixtures)
      t.strictSame(
        warnings.filter((text) => !text.includes('far from')),
        [],
        one.name,
      )
    }
  })
}

t.test('every part of an image prompt matters', async (t) => {
  await using pipe = await load(named('sd1', 'plain'))
  const one = optionsOf(named('sd1', 'plain'))
  const [prompt] = one.imagePrompts
  const draw = async (...prompts: Partial<ImagePromptOptions>[]) => {
    const imagePrompts = prompts.map((change) => ({ ...prompt, ...change }))
    return (await pipe.generate({ ...one, imagePrompts })).images[0].data
  }
  const plain = await draw({})
  const none = await draw()
  t.ok(largestDifference(plain, none) > 20, 'the image guides')
  t.strictSame(await draw({ scale: 0 }), none, 'a scale of 0 changes nothing')
  const ones = { data: new Float32Array(16).fill(1), shape: [1, 1, 4, 4] }
  t.ok(largestDifference(await draw({ mask: ones }), plain) <= 1, 'a white mask changes nothing')
  const zero = { data: new Float32Array(16), shape: [1, 1, 4, 4] }
  t.strictSame(await draw({ mask: zero }), none, 'with a black mask nothing counts')
  for (const change of [
    { scale: 0.9 },
    { scale: -1 },
    { end: 0.5 },
    { start: 0.5 },
    { mask: join(fixtures, 'left.png') },
    { image: join(fixtures, 'b.png') },
    { image: [join(fixtures, 'a.png'), join(fixtures, 'b.png')] },
  ])
    t.ok(largestDifference(await draw(change), plain) > 0, JSON.stringify(change))
  t.strictSame(await draw({ end: 0.5 }), await draw({ end: 0.5 }, { start: 0.5, scale: 0 }))
  t.strictSame(await draw({}), plain, 'nothing is left behind')
})

t.test('embeddings stand for images', async (t) => {
  for (const name of ['plain', 'plus'] as const) {
    const one = named('sd1', name)
    await using pipe = await load(one)
    const options = optionsOf(one)
    const [{ image }] = options.imagePrompts
    const wanted = (await pipe.generate(options)).images[0].data
    await using encoder = await ImageEncoder.load(encoderOf('clip'), { precision: 'f32' })
    const seen = await encoder.preprocess(image!)
    const embeds = name === 'plain' ? await encoder.encode(seen) : await encoder.hiddenStates(seen)
    const drawn = await pipe.generate({ ...options, imagePrompts: [{ embeds }] })
    t.ok(largestDifference(drawn.images[0].data, wanted) <= 1, name)
    const black: Tensor = { data: new Float32Array(embeds.data.length).fill(0.5), shape: embeds.shape }
    const other = await pipe.generate({ ...options, imagePrompts: [{ embeds, negativeEmbeds: black }] })
    t.ok(largestDifference(other.images[0].data, wanted) > 0, `${name}: negativeEmbeds count`)
  }
})

t.test('several images as one tensor, and images of every kind', async (t) => {
  const one = named('sd1', 'together')
  await using pipe = await load(one)
  const options = optionsOf(one)
  const size = { width: 28, height: 28, fit: 'cover' as const }
  const images = ['a.png', 'b.png'].map((name) => sharp(join(fixtures, name)).resize(size))
  const files = await Promise.all(images.map((image) => image.png().toBuffer()))
  const planes = await Promise.all(
    images.map(async (image) => {
      const { data } = await image.clone().removeAlpha().raw().toBuffer({ resolveWithObject: true })
      return Float32Array.from({ length: 3 * 28 * 28 }, (_, i) => {
        const [channel, pixel] = [Math.floor(i / 784), i % 784]
        return data[3 * pixel + channel] / 127.5 - 1
      })
    }),
  )
  const tensor = { data: new Float32Array(2 * 3 * 784), shape: [2, 3, 28, 28] }
  for (const [i, plane] of planes.entries()) tensor.data.set(plane, i * plane.length)
  const draw = async (image: ImageInput | ImageInput[]) =>
    (await pipe.generate({ ...options, imagePrompts: [{ image }] })).images[0].data
  t.strictSame(await draw(tensor), await draw(files))
})

t.test('where the image encoder is found', async (t) => {
  const folder = join(root, 'beside')
  mkdirSync(folder, { recursive: true })
  const file = join(folder, 'plain.safetensors')
  cpSync(join(fixtures, 'sd1-plain.safetensors'), file)
  const one = named('sd1', 'plain')
  const options = optionsOf(one)
  await using without = await DiffusionPipeline.load(base.sd1, { ipAdapters: [file] })
  t.equal(without.ipAdapters[0].imageEncoder, undefined)
  await t.rejects(async () => without.generate(options), {
    name: 'TypeError',
    message:
      /Expected imagePrompts\[0\]\.embeds in place of imagePrompts\[0\]\.image, as .*plain\.safetensors has no image encoder/,
  })
  // One that does not fit is passed over, one in the model's folder is found after one beside the file.
  cpSync(encoderOf('open-clip'), join(folder, 'image_encoder'), { recursive: true })
  const wanted = (await (await load(one)).generate(options)).images[0].data
  const model = join(root, 'with-encoder')
  cpSync(base.sd1, model, { recursive: true })
  cpSync(encoderOf('clip'), join(model, 'image_encoder'), { recursive: true })
  const plus = join(folder, 'plus.safetensors')
  cpSync(join(fixtures, 'sd1-plus.safetensors'), plus)
  await using found = await DiffusionPipeline.load(model, { precision: 'f32', ipAdapters: [plus] })
  t.equal(found.ipAdapters[0].imageEncoder!.config.width, 16)
  cpSync(encoderOf('clip'), join(folder, 'image_encoder'), { recursive: true, force: true })
  await using beside = await DiffusionPipeline.load(base.sd1, {
    precision: 'f32',
    ipAdapters: [file, { path: plus }],
  })
  t.equal(beside.ipAdapters[0].imageEncoder, beside.ipAdapters[1].imageEncoder, 'they share it')
  t.strictSame((await beside.generate(options)).images[0].data, wanted)
  await t.rejects(
    DiffusionPipeline.load(base.sd1, { ipAdapters: [{ path: plus, imageEncoder: encoderOf('open-clip') }] }),
    {
      code: 'UNSUPPORTED_MODEL',
      message: /does not fit .*plus\.safetensors: expected hidden states of a width of 16, found 36/,
    },
  )
})

t.test('pickles hold the same adapter', async (t) => {
  const one = named('sd1', 'weak')
  const options = optionsOf(one)
  const drawn = []
  for (const adapter of ['sd1-plain.bin', 'sd1-plain.safetensors']) {
    await using pipe = await load({ ...one, adapters: [adapter] })
    drawn.push((await pipe.generate(options)).images[0].data)
    t.match(pipe.adapters, [{ kind: 'IP-Adapter', applied: 12, unplaced: [] }])
  }
  t.strictSame(drawn[0], drawn[1])
})

t.test('the LoRA of a FaceID file is a part of the model', async (t) => {
  const one = named('sd1', 'face-lora')
  await using pipe = await load(one)
  await using plain = await load({ ...one, adapters: [] })
  const options = { ...optionsOf(one), imagePrompts: [] }
  const [with_, without] = [await pipe.generate(options), await plain.generate(options)]
  t.ok(largestDifference(with_.images[0].data, without.images[0].data) > 0)
  t.match(pipe.adapters, [{ kind: 'IP-Adapter', ranks: [2], unplaced: [] }])
  t.match(with_.parameters[0], { extra: {} })
  await t.rejects(
    async () => pipe.generate({ prompt: '', imagePrompts: [{ image: join(fixtures, 'a.png') }] }),
    { name: 'TypeError', message: /takes the embeddings of faces/ },
  )
})

t.test('FaceID Plus takes the embedding of a face and its picture', async (t) => {
  const one = named('sd1', 'face-plus')
  const options = optionsOf(one)
  await using pipe = await load(one)
  t.match(pipe.ipAdapters, [{ input: 'face-picture', config: { projection: { shortcut: false } } }])
  t.match(pipe.adapters, [{ kind: 'IP-Adapter', ranks: [2], unplaced: [] }])
  const draw = async (change: Partial<ImagePromptOptions>) => {
    const imagePrompts = [{ ...options.imagePrompts[0], ...change }]
    return (await pipe.generate({ ...options, imagePrompts })).images[0].data
  }
  const wanted = await draw({})
  const embeds = options.imagePrompts[0].embeds!
  const other = { data: embeds.data.map((x) => -x), shape: embeds.shape }
  t.ok(largestDifference(await draw({ image: join(fixtures, 'b.png') }), wanted) > 0, 'the picture counts')
  t.ok(largestDifference(await draw({ embeds: other }), wanted) > 0, 'the face counts')
  t.ok(largestDifference(await draw({ negativeEmbeds: other }), wanted) > 0, 'negativeEmbeds count')
  // The files of version 2 look alike; the option counts more than the name.
  const path = join(fixtures, one.adapters[0])
  const v2 = { ipAdapters: [{ path, imageEncoder: encoderOf('clip'), shortcut: true }] }
  await using second = await load(one, v2)
  t.ok(largestDifference((await second.generate(options)).images[0].data, wanted) > 0, 'shortcut counts')

  const { image } = options.imagePrompts[0]
  await using without = await load({ ...one, encoder: null })
  for (const [from, prompt, type, message] of [
    [
      pipe,
      { image },
      TypeError,
      /Expected imagePrompts\[0\]\.embeds, as .* the embedding of a face and its picture/,
    ],
    [
      pipe,
      { embeds },
      TypeError,
      /Expected imagePrompts\[0\]\.image, as .* the embedding of a face and its picture/,
    ],
    [pipe, { image: [image, image], embeds }, RangeError, /as many pictures .* but received 2 and 1/],
    [pipe, { image, embeds: { data: new Float32Array(5), shape: [1, 5] } }, RangeError, /embeds/],
    [
      without,
      { image, embeds },
      TypeError,
      /Expected a pipeline loaded with an imageEncoder for imagePrompts\[0\]/,
    ],
  ] as const)
    // prettier-ignore
    await t.rejects(async () => from.generate({ ...options, imagePrompts: [prompt as never] }), {
      constructor: type,
      message,
    })
  await t.rejects(load(one, { ipAdapters: [{ path, shortcut: 1 as never }] }), {
    constructor: TypeError,
    message: /boolean for ipAdapters\[0\]\.shortcut/,
  })
  const plain = join(fixtures, named('sd1', 'plain').adapters[0])
  await t.rejects(load(one, { ipAdapters: [path, { path: plain, shortcut: true }] }), {
    constructor: TypeError,
    message: /^Expected no ipAdapters\[1\]\.shortcut, as .* is not FaceID Plus$/,
  })
})

t.test('quantized models, deep features and merged tokens go with IP-Adapters', async (t) => {
  const one = named('sd1', 'plain')
  const options = optionsOf(one)
  const model = join(root, 'ip-q8_0.gguf')
  await quantizeModel(base.sd1, model, { type: 'q8_0' })
  const adapter = { path: join(fixtures, 'sd1-plain.bin'), imageEncoder: encoderOf('clip') }
  await using quantized = await DiffusionPipeline.load(model, { ipAdapters: [adapter] })
  const { images } = await quantized.generate(options)
  const wanted = await pixels(one.files[0])
  const without = (await quantized.generate({ ...options, imagePrompts: [] })).images[0].data
  const error = (data: Uint8Array) => data.reduce((sum, x, i) => sum + (x - wanted[i]) ** 2, 0)
  t.ok(error(images[0].data) < error(without) / 4, `${error(images[0].data)} of ${error(without)}`)

  await using pipe = await load(one)
  const whole = (await pipe.generate(options)).images[0].data
  const exact = await pipe.generate({ ...options, deepCache: { interval: 1, depth: 1 }, tokenMerging: 0 })
  t.strictSame(exact.images[0].data, whole)
  const merged = await pipe.generate({ ...options, tokenMerging: 0.5 })
  t.ok(largestDifference(merged.images[0].data, whole) > 0)
  // Features are never reused where a prompt begins or ends: each half computes its first step.
  const half = { ...options, imagePrompts: [{ ...options.imagePrompts[0], end: 0.5 }] }
  const cached = await pipe.generate({ ...half, deepCache: { interval: 1000, depth: 1 } })
  const all = await pipe.generate({ ...options, deepCache: { interval: 1000, depth: 1 } })
  t.ok(largestDifference(cached.images[0].data, all.images[0].data) > 0)
  const { images: interval } = await pipe.generate({ ...options, guidanceInterval: [0.2, 0.7] })
  t.ok(largestDifference(interval[0].data, whole) > 0)
})

t.test('memory of image prompts is known before a run', async (t) => {
  const one = named('sd1', 'two')
  await using pipe = await load(one)
  await using plain = await load({ ...one, adapters: [] })
  const size = { width: 64, height: 64 }
  // The decoder of this small model takes more than its UNet does with an image.
  const embeds = { data: new Float32Array(64 * 1024 * 16), shape: [64, 1024, 16] }
  const needed = (imagePrompts: ImagePromptOptions[]) => pipe.memoryNeeded({ ...size, imagePrompts })
  const [without, guided] = [needed([]), needed([{ adapter: 1, embeds }])]
  t.equal(without.working, plain.memoryNeeded(size).working)
  const [first, second] = pipe.ipAdapters
  const own = first.weightBytes + second.weightBytes + first.imageEncoder!.weightBytes
  t.equal(without.weights, plain.memoryNeeded(size).weights + own)
  t.ok(guided.working > without.working + 2 * 4 * embeds.data.length, 'both halves of the embeddings count')
  const unet = (...imageLengths: number[]) => pipe.unet.workingBytes(2, 16, 16, 77, { imageLengths })
  t.ok(unet(4096) > unet() && unet(8192) > unet(4096), 'tokens count')
})

t.test('images are named in the parameters', async (t) => {
  const one = named('sd1', 'two')
  await using pipe = await load(one)
  const { parameters } = await pipe.generate({ ...optionsOf(one), steps: 1 })
  t.match(parameters[0].extra, {
    'IP-Adapter 0': 'Model: sd1-plain, Weight: 0.5',
    'IP-Adapter 1': 'Model: sd1-plus, Weight: 0.4',
  })
})

t.test('wrong options are named', async (t) => {
  await using pipe = await load(named('sd1', 'plus'))
  const image = join(fixtures, 'a.png')
  const rejects = async (imagePrompts: unknown, error: typeof Error, message: RegExp) =>
    t.rejects(async () => pipe.generate({ prompt: '', imagePrompts: imagePrompts as ImagePromptOptions[] }), {
      name: error.name,
      message,
    })
  const tensor = (...shape: number[]) => ({ data: new Float32Array(shape.reduce((a, b) => a * b)), shape })
  await rejects({}, TypeError, /Expected array for imagePrompts/)
  await rejects([{}], TypeError, /either imagePrompts\[0\]\.image or imagePrompts\[0\]\.embeds .* neither/)
  await rejects([{ image, embeds: tensor(1, 2, 16) }], TypeError, /but received both/)
  await rejects([{ image: [] }], RangeError, /between 1 and 64 images for imagePrompts\[0\]\.image/)
  await rejects([{ image: [1] }], TypeError, /for imagePrompts\[0\]\.image\[0\]/)
  await rejects([{ image, adapter: 1 }], RangeError, /between 0 and 0 for imagePrompts\[0\]\.adapter/)
  await rejects([{ image, scale: NaN }], RangeError, /imagePrompts\[0\]\.scale/)
  await rejects([{ image, start: 1 }], RangeError, /imagePrompts\[0\]\.start below imagePrompts\[0\]\.end/)
  await rejects([{ embeds: tensor(1, 16) }], RangeError, /imagePrompts\[0\]\.embeds/)
  await rejects([{ embeds: tensor(1, 2, 17) }], RangeError, /imagePrompts\[0\]\.embeds/)
  await rejects([{ embeds: tensor(65, 1, 16) }], RangeError, /at most 64 images of 4096 tokens/)
  await rejects(
    [{ embeds: tensor(1, 2, 16), negativeEmbeds: tensor(1, 3, 16) }],
    RangeError,
    /imagePrompts\[0\]\.negativeEmbeds/,
  )
  await rejects([{ image, negativeEmbeds: tensor(1, 2, 16) }], TypeError, /as .*negativeEmbeds was given/)
  await rejects([{ image, mask: 1 }], TypeError, /imagePrompts\[0\]\.mask/)
  await rejects([{ image, mask: tensor(1, 3, 4, 4) }], RangeError, /shape \[1, 1, h, w\]/)
  await rejects([{ image, modle: 1 }], TypeError, /Unknown option imagePrompts\[0\]\.modle/)
  await rejects(new Array(17).fill({ image }), RangeError, /at most 16/)
  await rejects([{ image: 'missing.png' }], Error, /missing\.png/)
  await using plain = await DiffusionPipeline.load(base.sd1)
  await t.rejects(async () => plain.generate({ prompt: '', imagePrompts: [{ image }] }), {
    name: 'TypeError',
    message: /loaded with ipAdapters/,
  })
  for (const [ipAdapters, message] of [
    ['a', /array of paths/],
    [[1], /ipAdapters\[0\]/],
    [[{ path: 'a', imageEncoder: 1 }], /ipAdapters\[0\]\.imageEncoder/],
    [[{ file: 'a' }], /Unknown option ipAdapters\[0\]\.file/],
  ] as const)
    await t.rejects(DiffusionPipeline.load(base.sd1, { ipAdapters } as unknown as LoadOptions), {
      name: 'TypeError',
      message,
    })
})

t.test('files that are no IP-Adapter, or one for another model, are refused', async (t) => {
  const refuses = (family: Family, ipAdapter: string, message: RegExp) =>
    t.rejects(
      DiffusionPipeline.load(base[family], { ipAdapters: [ipAdapter] }),
      { code: 'UNSUPPORTED_MODEL', message },
      basename(ipAdapter),
    )
  const file = (name: string) => join(fixtures, name)
  await refuses('sdxl', file('sd1-plain.bin'), /made for another model.* a width of 40, found 16/)
  await refuses('sd1', file('sdxl-plus.bin'), /made for another model.* a width of 16, found 40/)
  await refuses(
    'sd1',
    join(fixtures, '..', 'adapters', 'kohya.safetensors'),
    /not an IP-Adapter: it is a LoRA/,
  )
  await t.rejects(DiffusionPipeline.load(file('sd1-plain.bin')), {
    code: 'UNSUPPORTED_MODEL',
    message: /IP-Adapter, which guides a model.*ipAdapters/,
  })
  await t.rejects(DiffusionPipeline.load(base.sd1, { loras: [file('sd1-plain.bin')] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /this is not a LoRA: it is an IP-Adapter/,
  })
})

t.test('adapters that are not complete, or of other kinds, are named', async (t) => {
  const file = join(root, 'other.safetensors')
  const matrices = (context: number) =>
    Object.fromEntries(
      [1, 3, 5, 7].flatMap((number) =>
        ['k', 'v'].map((part) => [
          `ip_adapter.${number}.to_${part}_ip.weight`,
          { shape: [number === 7 ? 16 : 8, context] },
        ]),
      ),
    )
  const plain = (context: number) => ({
    'image_proj.proj.weight': { shape: [4 * context, 20] },
    'image_proj.proj.bias': { shape: [4 * context] },
    'image_proj.norm.weight': { shape: [context] },
    'image_proj.norm.bias': { shape: [context] },
  })
  const refuses = async (tensors: Parameters<typeof writeSafetensors>[1], code: string, message: RegExp) => {
    writeSafetensors(file, tensors)
    await t.rejects(DiffusionPipeline.load(base.sd1, { ipAdapters: [file] }), { code, message })
  }
  const whole: Parameters<typeof writeSafetensors>[1] = { ...plain(16), ...matrices(16) }
  writeSafetensors(file, whole)
  await using _ = await DiffusionPipeline.load(base.sd1, { ipAdapters: [file] })
  await refuses(
    { ...plain(2048), ...matrices(2048) },
    'UNSUPPORTED_MODEL',
    /this IP-Adapter is for Stable Diffusion XL, and the model is .* a width of 16, found 2048/,
  )
  const without = (name: string) =>
    Object.fromEntries(Object.entries(whole).filter(([known]) => known !== name)) as typeof whole
  await refuses(without('ip_adapter.7.to_k_ip.weight'), 'UNSUPPORTED_MODEL', /expected 4 attentions, found 3/)
  await refuses(
    without('image_proj.proj.bias'),
    'MODEL_FORMAT',
    /tensor image_proj\.proj\.bias of shape \[64\] is missing/,
  )
  await refuses(
    { ...whole, 'image_proj.x': { shape: [1] } },
    'UNSUPPORTED_MODEL',
    /image_proj\.x.* belongs to a part/,
  )
  await refuses(
    { ...whole, 'image_proj.proj.weight': { shape: [63, 20] } },
    'MODEL_FORMAT',
    /proj\.weight: expected a multiple of 16 rows, found 63/,
  )
  await refuses(
    {
      ...matrices(16),
      ...{ 'image_proj.perceiver_resampler.proj_in.weight': { shape: [8, 8] } },
      ...{ 'image_proj.proj.0.weight': { shape: [8, 8] }, 'image_proj.proj.2.weight': { shape: [16, 8] } },
      'image_proj.norm.weight': { shape: [8] },
    },
    'MODEL_FORMAT',
    /perceiver_resampler\.layers\.0\.0\.to_q\.weight is missing/,
  )
  await refuses(
    { ...matrices(16), 'image_proj.other.weight': { shape: [8, 8] } },
    'UNSUPPORTED_MODEL',
    /a projection of images that node-diffusion does not know/,
  )
  await refuses(
    { ...matrices(16), 'image_proj.latents': { shape: [8] } },
    'MODEL_FORMAT',
    /expected 3 dimensions/,
  )
})

t.test('runs with image prompts end at once when they are aborted', async (t) => {
  const one = named('sd1', 'plus')
  await using pipe = await load(one)
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
