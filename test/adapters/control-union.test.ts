/** Pictures with a ControlNet for several kinds of pictures compared with those of diffusers (tools/fixtures/control_union.py). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  ControlNet,
  DiffusionPipeline,
  imageToTensor,
  openModel,
  quantizeModel,
  type ControlOptions,
  type GenerateOptions,
  type LoadOptions,
} from '../../lib/index.js'
import { native, type ControlNetConfig } from '../../lib/native.js'
import { packageRoot } from '../../lib/package-root.js'
import { freshPath, writeSafetensors, type TestTensor } from '../model-files/helpers.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { cosine, effectOf } from './effect.js'
import { base, fixtures as pictures, nets, root } from './control-models.js'

interface Case {
  name: string
  options: GenerateOptions & { controls: ControlOptions[] }
  files: string[]
}

const fixtures = join(packageRoot(), 'test', 'fixtures', 'control-union')
const net = join(fixtures, 'net')
const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }
const edges = join(pictures, 'edges.png')
const depth = join(pictures, 'depth.png')

const load = (options: LoadOptions = {}) =>
  DiffusionPipeline.load(base.sdxl, { precision: 'f32', controlNets: [net], ...options })

function optionsOf({ options }: Case): Case['options'] {
  const given = { ...options, weighting: false }
  if (typeof given.image === 'string') given.image = join(pictures, given.image)
  given.controls = given.controls.map((one) => ({ ...one, image: join(pictures, one.image as string) }))
  return given
}

const named = (name: string) => cases.find((one) => one.name === name)!

t.test('pictures equal those of diffusers', async (t) => {
  await using pipe = await load()
  for (const one of cases) {
    const { images, warnings } = await pipe.generate(optionsOf(one))
    await equalImages(t, images, one, fixtures)
    t.strictSame(
      warnings.filter((text) => !text.includes('far from')),
      [],
      one.name,
    )
  }
})

t.test('every part of a control matters', async (t) => {
  await using pipe = await load({ controlNets: [net, net] })
  const call = { prompt: 'noto pizza', steps: 4, seed: 1, width: 64, height: 64 }
  const draw = async (...controls: ControlOptions[]) =>
    (await pipe.generate({ ...call, controls })).images[0].data
  const one = { image: edges, type: 'canny' } as const
  const two = { image: depth, type: 'depth', scale: 0.7 } as const
  const plain = await draw(one)
  t.ok(largestDifference(plain, await draw()) > 20, 'the picture guides')
  t.strictSame(await draw({ ...one, type: 3 }), plain, 'a number stands for a name')
  t.strictSame(await draw({ ...one, type: 'lineart' }), plain, 'a kind has several names')
  t.ok(largestDifference(await draw({ ...one, type: 'depth' }), plain) > 0, 'type')
  t.ok(largestDifference(await draw({ ...one, scale: 0.5 }), plain) > 0, 'scale')
  const mask = await imageToTensor(join(pictures, 'mask.png'))
  const area = { data: mask.data.slice(0, 64 * 64).map((x) => (x + 1) / 2), shape: [1, 1, 64, 64] }
  const picture = await imageToTensor(edges)
  const black = { ...picture, data: picture.data.map((x, i) => (area.data[i % (64 * 64)] > 0.5 ? -1 : x)) }
  t.strictSame(
    await draw({ ...one, type: 'canny', mask: area }),
    await draw({ ...one, type: 'canny', image: black }),
    'what is masked is black',
  )
  const both = await draw(one, two)
  t.ok(largestDifference(both, plain) > 0, 'a second picture')
  t.ok(largestDifference(await draw(one, { ...two, scale: 0.2 }), both) > 0, 'the scale of one of two')
  t.ok(largestDifference(await draw(one, { ...two, net: 1 }), both) > 0, 'two forwards are not one')
  t.strictSame(
    await draw({ ...one, end: 0.5 }, { ...two, start: 0.5 }),
    await draw({ ...one, end: 0.5 }, { ...two, net: 1, start: 0.5 }),
    'pictures that never guide together do not depend on each other',
  )
  t.strictSame(await draw(one), plain, 'nothing is left behind')
  const canny = await draw({ image: edges, preprocessor: 'canny' })
  t.strictSame(
    await draw({ image: edges, preprocessor: 'canny', type: 'canny' }),
    canny,
    'from the preprocessor',
  )
})

t.test('no image of a batch depends on the pictures of others', async (t) => {
  await using pipe = await load()
  const tensors = await Promise.all([edges, depth].map((file) => imageToTensor(file)))
  const size = tensors[0].data.length
  const data = new Float32Array(2 * size)
  for (const [i, tensor] of tensors.entries()) data.set(tensor.data, i * size)
  const call = { prompt: 'noto pizza', steps: 3, width: 64, height: 64 }
  const type = 'depth'
  const batch = await pipe.generate({
    ...{ ...call, seed: 5, batchSize: 2 },
    controls: [{ image: { data, shape: [2, 3, 64, 64] }, type }],
  })
  for (const [i, image] of tensors.entries()) {
    const alone = await pipe.generate({ ...call, seed: 5 + i, controls: [{ image, type }] })
    t.ok(largestDifference(batch.images[i].data, alone.images[0].data) <= 1, `image ${i}`)
  }
})

t.test('files of quantize, quantized models and little memory', async (t) => {
  const file = join(root, 'union.gguf')
  await quantizeModel(net, file, { type: 'f16' })
  const { controlNet } = await openModel(file)
  t.strictSame(controlNet!.config, (await openModel(net)).controlNet!.config)
  t.same(controlNet!.config.union, { types: 8, layers: 2 })
  const one = named('two')
  {
    await using pipe = await load({ controlNets: [file] })
    await equalImages(t, (await pipe.generate(optionsOf(one))).images, one, fixtures)
  }
  {
    await using pipe = await load({ lowMemory: true })
    await equalImages(t, (await pipe.generate(optionsOf(one))).images, one, fixtures)
  }
  const small = join(root, 'union-q8_0.gguf')
  const model = join(root, 'sdxl-q8_0.gguf')
  await quantizeModel(net, small, { type: 'q8_0' })
  await quantizeModel(base.sdxl, model, { type: 'q8_0' })
  await using exact = await load()
  await using pipe = await DiffusionPipeline.load(model, { controlNets: [small] })
  const similar = cosine(await effectOf(exact, optionsOf(one)), await effectOf(pipe, optionsOf(one)))
  t.ok(similar > 0.95, `cosine ${similar}`)
})

/** The tensors of a ControlNet as published: fused projections of queries, keys and values. */
function published(config: ControlNetConfig): Record<string, TestTensor> {
  const tensors: Record<string, TestTensor> = {}
  for (const { name, shape } of native().requiredTensors('controlNet', config)) {
    const [, stem, leaf] = /^(.*\.attn\.)v_proj\.(weight|bias)$/.exec(name) ?? []
    if (stem === undefined) tensors[name] = { shape }
    else tensors[`${stem}in_proj_${leaf}`] = { shape: [3 * shape[0], ...shape.slice(1)] }
  }
  return tensors
}

t.test('single files as they are published', async (t) => {
  const unet: ControlNetConfig['unet'] = {
    ...{ inChannels: 4, outChannels: 4, blockChannels: [64, 128], layersPerBlock: [2, 2] },
    ...{ downTransformerDepth: [0, 2], upTransformerDepth: [0, 0], midTransformerDepth: 2, heads: [1, 2] },
    ...{ contextWidth: 2048, normGroups: 32, normEps: 1e-5, flipSinToCos: true, freqShift: 0 },
    added: { width: 2816, timeWidth: 256 },
  }
  const config = { unet, imageChannels: 3, imageWidths: [16, 32, 96, 256], union: { types: 6, layers: 1 } }
  const path = writeSafetensors(freshPath(t, '.safetensors'), published(config))
  const { controlNet, unused } = await openModel(path)
  t.strictSame(controlNet!.config, config)
  t.equal(unused, undefined)
  const later = { ...config, union: { types: 8, layers: 2 } }
  const proMax = writeSafetensors(freshPath(t, '.safetensors'), published(later))
  t.strictSame((await openModel(proMax)).controlNet!.config, later)
  const small = writeSafetensors(
    freshPath(t, '.safetensors'),
    Object.fromEntries(
      Object.entries(published(config)).filter(([name]) => !name.startsWith('add_embedding')),
    ),
  )
  await t.rejects(openModel(small), { code: 'UNSUPPORTED_MODEL', message: /for Stable Diffusion XL only/ })
})

t.test('wrong types are named', async (t) => {
  await using pipe = await load({ controlNets: [net, nets('sdxl')[0]] })
  const rejects = async (control: object, error: typeof TypeError | typeof RangeError, message: RegExp) =>
    t.rejects(async () => pipe.generate({ prompt: '', controls: [control as ControlOptions] }), {
      name: error.name,
      message,
    })
  const image = edges
  await rejects({ image }, TypeError, /^Expected controls\[0\]\.type, as this ControlNet takes several kinds/)
  await rejects({ image, preprocessor: 'grey' }, TypeError, /^Expected controls\[0\]\.type, as/)
  await rejects({ image, type: 8 }, RangeError, /integer between 0 and 7 for controls\[0\]\.type/)
  await rejects({ image, type: null }, TypeError, /controls\[0\]\.type/)
  await rejects({ image, type: 'cany' }, RangeError, /openpose, depth, .* for controls\[0\]\.type/)
  await rejects({ image, net: 1, type: 'canny' }, TypeError, /Expected no controls\[0\]\.type, as this/)
  await using small = await ControlNet.load(net, { precision: 'f32' })
  t.equal(small.types, 8)
})

t.test('memory', async (t) => {
  await using pipe = await load()
  const call = { width: 64, height: 64, batchSize: 8 }
  const one = { image: edges, type: 'canny' } as const
  const bytes = (controls: ControlOptions[]) => pipe.memoryNeeded({ ...call, controls }).working
  const [none, first, second] = [bytes([]), bytes([one]), bytes([one, { ...one, type: 'depth' }])]
  t.ok(first > none, `${first} > ${none}`)
  t.ok(second > first, `${second} > ${first}`)
})

t.test('runs end at once when they are aborted', async (t) => {
  await using pipe = await load()
  const one = named('two')
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
