/** Models that are conditioned on images, compared with diffusers (tools/fixtures/conditioned.py), and their options. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t, { type Test } from 'tap'
import {
  bundledModelPath,
  DiffusionPipeline,
  quantizeModel,
  type GenerateOptions,
  type LoadOptions,
  type Tensor,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { equalImages, largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'conditioned')

interface Case {
  name: string
  model: string
  unet: string
  options: GenerateOptions
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }

/** The models of the fixtures, with the bundled model's tokenizer. */
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-conditioned-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
for (const model of new Set(cases.map(({ model }) => model))) {
  cpSync(join(fixtures, model), join(root, model), { recursive: true })
  cpSync(join(bundledModelPath(), 'tokenizer'), join(root, model, 'tokenizer'), { recursive: true })
}

const load = (model: string, unet: string, options: LoadOptions = {}) =>
  DiffusionPipeline.load(join(root, model), {
    precision: 'f32',
    ...(unet !== 'base' && { unet: join(fixtures, unet) }),
    ...options,
  })

/** The options with the paths of images. */
function optionsOf({ options }: Case): GenerateOptions {
  const given: GenerateOptions = { ...options, weighting: false }
  for (const key of ['image', 'mask', 'depth'] as const)
    if (typeof given[key] === 'string') given[key] = join(fixtures, given[key])
  return given
}

async function compare(t: Test, pipe: DiffusionPipeline, one: Case) {
  const { images, warnings } = await pipe.generate(optionsOf(one))
  await equalImages(t, images, one, fixtures)
  t.same(warnings, [], one.name)
}

const photo = join(fixtures, 'photo.png')
const quick = { prompt: 'noto pizza', steps: 2, seed: 1, scheduler: 'euler' } as const

for (const key of new Set(cases.map(({ model, unet }) => `${model}/${unet}`))) {
  const [model, unet] = key.split('/')
  t.test(`pictures of ${key} equal those of diffusers`, async (t) => {
    await using pipe = await load(model, unet)
    for (const one of cases) if (one.model === model && one.unet === unet) await compare(t, pipe, one)
  })
}

t.test('InstructPix2Pix: what it cannot use, and what has no effect', async (t) => {
  await using pipe = await load('base', 'edit')
  t.ok(pipe.memoryNeeded({ width: 64, height: 64 }).total > 0)
  await t.rejects(pipe.generate(quick), {
    name: 'TypeError',
    message: 'Expected image, as this model edits one',
  })
  await t.rejects(pipe.generate({ ...quick, image: photo, mask: photo }), {
    name: 'TypeError',
    message: 'Expected no mask, as this model edits the whole image',
  })
  const { warnings, parameters } = await pipe.generate({ ...quick, image: photo, strength: 0.5 })
  t.match(warnings, [/^strength has no effect on a model that edits images$/])
  t.match(parameters[0], { strength: undefined, extra: { 'Image CFG scale': '1.5' } })
  const draw = async (options: GenerateOptions) =>
    (await pipe.generate({ ...quick, image: photo, ...options })).images[0].data
  const plain = await draw({})
  t.ok(largestDifference(plain, await draw({ imageGuidanceScale: 0.5 })) > 2, 'a scale below 1 has an effect')
  t.ok(largestDifference(plain, await draw({ guidanceRescale: 0.7 })) > 2, 'so does guidanceRescale')
})

t.test('imageGuidanceScale of a model that edits nothing', async (t) => {
  await using pipe = await load('base', 'base')
  const { warnings } = await pipe.generate({ ...quick, imageGuidanceScale: 2 })
  t.match(warnings, [/^imageGuidanceScale has no effect on a model that does not edit images$/])
})

t.test('the ×4 upscaler: what it needs, cannot use, and writes down', async (t) => {
  await using pipe = await load('upscaler', 'base')
  t.match(pipe.model, { architecture: 'Stable Diffusion ×4 upscaler', factor: 4, imageSize: 64 })
  t.ok(pipe.memoryNeeded({ width: 64, height: 64 }).total > 0)
  const image = join(fixtures, 'small.png')
  await t.rejects(pipe.generate(quick), {
    name: 'TypeError',
    message: 'Expected image, as this model enlarges one',
  })
  await t.rejects(pipe.generate({ ...quick, image, noiseLevel: 351 }), {
    name: 'RangeError',
    message: /^Expected integer between 0 and 350 for noiseLevel but received 351/,
  })
  await t.rejects(pipe.generate({ ...quick, image, mask: image }), {
    message: 'Expected no mask, as this model enlarges the whole image',
  })
  const { images, parameters, warnings } = await pipe.generate({ ...quick, image, strength: 0.5 })
  t.match(images[0], { width: 64, height: 64 })
  t.match(parameters[0], { guidanceScale: 9, strength: undefined, extra: { 'Noise level': '20' } })
  t.match(warnings, [/^strength has no effect on a model that enlarges images$/])
  // An image of any size, and with another size of the result.
  const odd = { data: new Float32Array(3 * 5 * 7), shape: [1, 3, 5, 7] }
  t.match((await pipe.generate({ ...quick, image: odd })).images[0], { width: 28, height: 20 })
  t.match((await pipe.generate({ ...quick, image, width: 40, height: 24 })).images[0], {
    width: 40,
    height: 24,
  })
  await t.rejects(pipe.generate({ ...quick, image: odd, width: 40, height: 24 }), {
    name: 'RangeError',
    message: 'Expected 10×6 pixels for image but received 7×5',
  })
  const latents = { data: new Float32Array(4 * 16 * 16).fill(0.5), shape: [1, 4, 16, 16] }
  t.equal((await pipe.generate({ ...quick, image, latents })).images.length, 1, 'with initial noise')
})

t.test('a quantized file of the ×4 upscaler', async (t) => {
  const file = join(root, 'upscaler.gguf')
  await quantizeModel(join(root, 'upscaler'), file, { type: 'f32' })
  await using pipe = await DiffusionPipeline.load(file, { precision: 'f32' })
  await compare(
    t,
    pipe,
    cases.find(({ name }) => name === 'enlarge-noise')!,
  )
})

t.test('Stable Diffusion 2 depth: with and without an image, and what it cannot use', async (t) => {
  await using pipe = await load('base', 'depth')
  t.ok(pipe.memoryNeeded({ width: 64, height: 64 }).total > 0)
  const depth = join(fixtures, 'map16.png')
  await t.rejects(pipe.generate({ ...quick, image: photo }), {
    name: 'TypeError',
    message: 'Expected depth, as this model draws by a depth map',
  })
  const alone = (await pipe.generate({ ...quick, depth })).images[0]
  t.match(alone, { width: 36, height: 28 }, 'it gives the picture its size')
  const draw = async (options: GenerateOptions) =>
    (await pipe.generate({ ...quick, width: 64, height: 64, ...options })).images[0].data
  const map = (...values: number[]) => ({ data: Float32Array.from(values), shape: [1, 1, 2, 2] })
  const slope = await draw({ depth: map(0, 1, 2, 3) })
  t.ok(
    largestDifference(slope, await draw({ depth: map(0, 100, 200, 300) })) <= 1,
    'the range does not matter',
  )
  t.ok(largestDifference(slope, await draw({ depth: map(3, 2, 1, 0) })) > 2, 'the depth does')
  const flat = await pipe.generate({ ...quick, depth: map(5, 5, 5, 5), width: 64, height: 64 })
  t.match(flat.warnings, [/^The depth map is the same everywhere/])
  const broken = await pipe.generate({ ...quick, depth: map(NaN, 1, 2, 3), width: 64, height: 64 })
  t.match(broken.warnings, [/^The depth map that was given holds numbers that are not finite/])
  await t.rejects(pipe.generate({ ...quick, depth: { data: new Float32Array(12), shape: [1, 3, 2, 2] } }), {
    name: 'RangeError',
    message: /^Expected shape \[1, 1, h, w\] for depth/,
  })
  await using plain = await load('base', 'base')
  await t.rejects(plain.generate({ ...quick, depth }), {
    name: 'TypeError',
    message: 'Expected no depth, as this model takes no depth map',
  })
})

t.test('a depth map is cropped as its image is', async (t) => {
  await using pipe = await load('base', 'depth')
  // A ramp from left to right in twice the picture's width: its middle half remains.
  const ramp = (from: number, to: number, width: number) => {
    const row = Array.from({ length: width }, (_, x) => from + ((to - from) * (x + 0.5)) / width)
    return { data: Float32Array.from([...row, ...row, ...row, ...row]), shape: [1, 1, 4, width] }
  }
  const wide = await sharp({ create: { width: 128, height: 64, channels: 3, background: '#804020' } }).png().toBuffer() // prettier-ignore
  const draw = async (image: Uint8Array | string, depth: Tensor) =>
    (await pipe.generate({ ...quick, image, depth, width: 64, height: 64 })).images[0].data
  const cropped = await draw(wide, ramp(0, 128, 128))
  const narrow = await sharp({ create: { width: 64, height: 64, channels: 3, background: '#804020' } }).png().toBuffer() // prettier-ignore
  t.ok(largestDifference(cropped, await draw(narrow, ramp(32, 96, 64))) <= 2)
})
