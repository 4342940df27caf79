/** Pictures with T2I-Adapters compared with those of diffusers (tools/fixtures/t2i.py). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  DiffusionPipeline,
  imageToTensor,
  openModel,
  T2iAdapter,
  type ControlOptions,
  type GenerateOptions,
  type LoadOptions,
} from '../../lib/index.js'
import { openTensorFile } from '../../lib/models/index.js'
import { renameT2iAdapter } from '../../lib/models/names/t2i-adapter.js'
import { openT2iAdapter } from '../../lib/models/t2i-adapter.js'
import { packageRoot } from '../../lib/package-root.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { base, nets as controlNets } from './control-models.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 't2i')

interface Case {
  name: string
  family: Family
  options: GenerateOptions & { controls: ControlOptions[] }
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }

const file = (name: string) => join(fixtures, name)
type Family = keyof typeof adapters
const adapters = { sd1: ['full', 'light', 'grey'], sdxl: ['full', 'grey'] }
const load = (family: Family, options: LoadOptions = {}) =>
  DiffusionPipeline.load(base[family], {
    precision: 'f32',
    controlNets: adapters[family].map((name) => file(`${family}-${name}`)),
    unet: file(`${family}-unet`),
    ...options,
  })

function optionsOf({ options }: Case): Case['options'] {
  const controls = options.controls.map((control) => ({ ...control, image: file(control.image as string) }))
  return { ...options, controls, weighting: false }
}

const named = (family: Family, name: string) =>
  cases.find((one) => one.family === family && one.name === name)!

for (const family of ['sd1', 'sdxl'] as const) {
  t.test(`pictures with T2I-Adapters equal those of diffusers: ${family}`, async (t) => {
    await using pipe = await load(family)
    for (const one of cases.filter((one) => one.family === family)) {
      const { images } = await pipe.generate(optionsOf(one))
      await equalImages(t, images, one, fixtures)
    }
  })
}

t.test('every part of a control matters', async (t) => {
  await using pipe = await load('sd1')
  const one = optionsOf(named('sd1', 'full'))
  const [control] = one.controls
  const draw = async (...changes: Partial<ControlOptions>[]) =>
    (await pipe.generate({ ...one, controls: changes.map((change) => ({ ...control, ...change })) }))
      .images[0].data
  const plain = await draw({})
  const none = await draw()
  t.ok(largestDifference(plain, none) > 20, 'the picture guides')
  t.strictSame(await draw({ scale: 0 }), none, 'a scale of 0 changes nothing')
  t.strictSame(await draw({ weights: [1, 1, 1] }), plain, 'weights of 1 are the default')
  for (const change of [
    { scale: 0.9 },
    { end: 0.5 },
    { start: 0.5 },
    { guess: true },
    { net: 1 },
    { weights: 'soft' as const },
    { weights: [0, 1, 1] },
    { image: file('depth.png') },
    { preprocessor: 'invert' as const },
  ])
    t.ok(largestDifference(await draw(change), plain) > 0, JSON.stringify(change))
  t.ok(largestDifference(await draw({ scale: 0.5 }, { scale: 0.5 }), plain) <= 1, 'two halves are one')
  t.strictSame(await draw({}), plain, 'nothing is left behind')
})

t.test('T2I-Adapters go with ControlNets and deep features', async (t) => {
  const nets = [...controlNets('sd1'), file('sd1-two-levels')]
  await using pipe = await load('sd1', { controlNets: nets, unet: undefined })
  const one = { ...optionsOf(named('sd1', 'full')), steps: 4 }
  const [{ image }] = one.controls
  const draw = async (controls: ControlOptions[], more: Partial<GenerateOptions> = {}) =>
    (await pipe.generate({ ...one, ...more, controls })).images[0].data
  const both = await draw([{ image }, { image, net: 2 }])
  t.strictSame(await draw([{ image, net: 2 }, { image }]), both, 'in any order')
  for (const net of [0, 2]) t.ok(largestDifference(await draw([{ image, net }]), both) > 0)
  const controls = [{ image, net: 2, end: 0.5 }]
  const whole = await draw(controls)
  t.strictSame(await draw(controls, { deepCache: { interval: 1, depth: 1 } }), whole)
  const cached = await draw(controls, { deepCache: { interval: 1000, depth: 1 } })
  t.ok(largestDifference(cached, whole) > 0)
})

t.test('the original names stand for the same tensors', async (t) => {
  for (const name of ['full', 'light']) {
    const original = file(`sd1-${name}-original.safetensors`)
    const known = join(file(`sd1-${name}`), 'diffusion_pytorch_model.safetensors')
    const shapes = async (path: string) => {
      const { tensors } = await openTensorFile(path)
      return [...renameT2iAdapter([path], tensors)].map(([key, { shape }]) => `${key} ${shape}`).sort()
    }
    t.strictSame(await shapes(original), await shapes(known), name)
    // This small one has another number of pixels for each feature than any published one.
    await t.rejects(openT2iAdapter(original), {
      code: 'UNSUPPORTED_MODEL',
      message: /found 48: use its folder/,
    })
  }
})

t.test('files without a configuration tell it by their tensors', async (t) => {
  const config = async (name: string) => (await openT2iAdapter(file(name)))!.config
  const two = { channels: [8, 16], halves: [0, 1], blocks: 2, factor: 8 }
  t.strictSame(await config('derived-full.safetensors'), { ...two, imageChannels: 3, light: false })
  t.strictSame(await config('derived-light.safetensors'), {
    ...two,
    ...{ channels: [8, 16, 16], halves: [0, 1, 1] },
    imageChannels: 1,
    light: true,
  })
  t.strictSame(await config('derived-xl.safetensors'), {
    ...{ imageChannels: 1, factor: 16, channels: [8, 8, 8, 8], halves: [0, 0, 1, 0], blocks: 2 },
    light: false,
  })
  await using adapter = await T2iAdapter.load(file('derived-xl.safetensors'))
  t.equal(adapter.residuals, 4)
})

t.test('memory of T2I-Adapters is known before a run', async (t) => {
  await using pipe = await load('sd1')
  const image = file('edges.png')
  const [without, one, two] = [[], [0], [0, 1]].map((list) =>
    pipe.memoryNeeded({ width: 64, height: 64, controls: list.map((net) => ({ net, image })) }),
  )
  t.ok(one.working > without.working)
  t.ok(two.working > one.working)
})

t.test('several pictures as a tensor, one for each image', async (t) => {
  await using pipe = await load('sd1')
  const one = optionsOf(named('sd1', 'full'))
  const both = await Promise.all(['edges.png', 'depth.png'].map((name) => imageToTensor(file(name))))
  const data = Float32Array.from(both.flatMap((tensor) => [...tensor.data]))
  const image = { data, shape: [2, 3, 64, 64] }
  const { images } = await pipe.generate({ ...one, batchSize: 2, controls: [{ image }] })
  for (const [i, name] of ['edges.png', 'depth.png'].entries()) {
    const alone = await pipe.generate({ ...one, seed: 1 + i, controls: [{ image: file(name) }] })
    t.ok(largestDifference(images[i].data, alone.images[0].data) <= 1, name)
  }
})

t.test('files for another model are refused, and no adapter is a model', async (t) => {
  await t.rejects(load('sdxl', { controlNets: [file('sd1-full')] }), {
    code: 'UNSUPPORTED_MODEL',
    message:
      /T2I-Adapter was made for another model: expected pixels for each of its features.* 8,8,16, found 4,8,16/,
  })
  await t.rejects(load('sd1', { controlNets: [file('sdxl-full')] }), {
    code: 'UNSUPPORTED_MODEL',
    message:
      /T2I-Adapter was made for another model: expected pixels for each of its features.* 4,8,16,16, found 8,8,16,16/,
  })
  for (const name of ['sd1-full', 'sd1-light-original.safetensors']) {
    await t.rejects(openModel(file(name)), { code: 'UNSUPPORTED_MODEL', message: /T2I-Adapter.*controlNets/ })
    await t.rejects(DiffusionPipeline.load(file(name)), { code: 'UNSUPPORTED_MODEL', message: /T2I-Adapter/ })
  }
  await t.rejects(T2iAdapter.load(controlNets('sd1')[0]), { message: /expected a T2I-Adapter/ })
  await using pipe = await load('sd1')
  await t.rejects(async () => pipe.generate({ prompt: '', controls: [{ image: 'x', weights: [1] }] }), {
    message: /Expected 3 numbers for controls\[0\]\.weights/,
  })
})

t.test('runs with T2I-Adapters end at once when they are aborted', async (t) => {
  await using pipe = await load('sd1')
  const one = named('sd1', 'two')
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
