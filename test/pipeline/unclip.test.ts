/** Stable Diffusion 2.1 unCLIP, compared with diffusers (tools/fixtures/unclip.py), and its options. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import {
  bundledModelPath,
  DiffusionPipeline,
  ImageEncoder,
  openModel,
  quantizeModel,
  type GenerateOptions,
  type LoadOptions,
  type Tensor,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { readTensors } from '../models/fixtures.js'
import { equalImages, largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'unclip')
const photo = join(fixtures, 'photo.png')

interface Case {
  name: string
  options: GenerateOptions
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }
const named = (name: string) => cases.find((one) => one.name === name)!

const root = mkdtempSync(join(tmpdir(), 'node-diffusion-unclip-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const folder = join(root, 'model')
cpSync(join(fixtures, 'model'), folder, { recursive: true })
cpSync(join(bundledModelPath(), 'tokenizer'), join(folder, 'tokenizer'), { recursive: true })

const load = (path = folder, options: LoadOptions = {}) =>
  DiffusionPipeline.load(path, { precision: 'f32', ...options })

async function compare(t: Test, pipe: DiffusionPipeline, { name, options, files }: Case, more = {}) {
  const given: GenerateOptions = { ...options, image: join(fixtures, options.image as string), ...more }
  const { images, warnings } = await pipe.generate({ ...given, weighting: false })
  await equalImages(t, images, { name, files }, fixtures)
  t.same(warnings, [], name)
}

/** The embedding of photo.png. */
function photoEmbeds(): Tensor {
  const { data, shape } = readTensors(join(fixtures, 'embeds.safetensors')).get('photo')!
  return { data: Float32Array.from(data), shape: [...shape] }
}

t.test('pictures equal those of diffusers', async (t) => {
  await using pipe = await load()
  t.equal(pipe.model.architecture, 'Stable Diffusion unCLIP')
  t.ok(pipe.model.components.imageEncoder!.parameters > 10_000)
  for (const one of cases) await compare(t, pipe, one)
  const embeds = photoEmbeds()
  await compare(t, pipe, named('noise'), { image: undefined, imageEmbeds: embeds })
  await compare(t, pipe, named('no-text'), { prompt: undefined })
})

t.test('a quantized file has the image encoder and what belongs to it', async (t) => {
  const file = join(root, 'model.gguf')
  const { groups } = await quantizeModel(folder, file, { type: 'f32' })
  t.ok(groups.some(({ name }) => name === 'image encoder'))
  await using pipe = await load(file)
  await compare(t, pipe, named('noise'))
  await compare(t, pipe, named('batch'))
  const model = await openModel(file)
  t.equal(model.unclip?.statistics?.mean.length, 20)
  t.equal(model.unclip?.schedule.betaSchedule, 'squaredcos_cap_v2')
})

t.test('the image encoder of another file', async (t) => {
  const bare = join(root, 'bare')
  cpSync(folder, bare, { recursive: true })
  for (const part of ['image_encoder', 'feature_extractor', 'image_normalizer'])
    rmSync(join(bare, part), { recursive: true })
  await using alone = await load(bare)
  await t.rejects(alone.generate({ image: photo }), {
    name: 'TypeError',
    message:
      "Expected imageEmbeds in place of image, as the model's files have no image encoder: give one to load() as imageEncoder",
  })
  const imageEmbeds = photoEmbeds()
  const quick = { steps: 2, seed: 1, scheduler: 'euler', width: 64, height: 64 } as const
  const given = await alone.generate({ ...quick, imageEmbeds })
  t.same(given.warnings, [], 'without noise, the statistics do not matter much')
  t.match((await alone.generate({ ...quick, imageEmbeds, noiseLevel: 5 })).warnings, [
    /^The model's files do not hold the mean and deviation of image embeddings/,
  ])
  await using pipe = await load(bare, { imageEncoder: folder })
  const encoded = await pipe.generate({ ...quick, image: photo })
  t.ok(largestDifference(encoded.images[0].data, given.images[0].data) <= 1)
  await t.rejects(DiffusionPipeline.load(undefined, { imageEncoder: folder }), {
    name: 'TypeError',
    message: 'Expected no imageEncoder, as this model takes no embedding of an image',
  })
})

t.test('what it needs, cannot use, and writes down', async (t) => {
  await using pipe = await load()
  t.ok(pipe.memoryNeeded({ width: 64, height: 64 }).total > 0)
  const embeds = (...shape: number[]) => ({
    data: new Float32Array(shape.reduce((a, b) => a * b)).fill(0.5),
    shape,
  })
  const refused = (options: GenerateOptions, name: string, message: string | RegExp) =>
    t.rejects(pipe.generate(options), { name, message })
  await refused({ prompt: 'a' }, 'TypeError', 'Expected image, as this model varies one')
  await refused(
    { image: photo, mask: photo },
    'TypeError',
    'Expected no mask, as this model varies the whole image',
  )
  await refused(
    { image: photo, imageEmbeds: embeds(1, 20) },
    'TypeError',
    'Expected either image or imageEmbeds but received both',
  )
  await refused({ imageEmbeds: embeds(1, 19) }, 'RangeError', /for imageEmbeds/)
  await refused(
    { imageEmbeds: embeds(3, 20), batchSize: 2 },
    'RangeError',
    /Expected shape \[2, 20\] for imageEmbeds/,
  )
  await refused({ image: photo, noiseLevel: 1000 }, 'RangeError', /between 0 and 999 for noiseLevel/)
  const quick = { image: photo, steps: 2, seed: 1, width: 64, height: 64 }
  const { parameters, warnings } = await pipe.generate({ ...quick, strength: 0.5 })
  t.match(warnings, [/^strength has no effect on a model that varies images$/])
  t.match(parameters[0], { guidanceScale: 10, strength: undefined, extra: { 'Noise level': '0' } })
  const broken = embeds(1, 20)
  broken.data[3] = NaN
  t.match((await pipe.generate({ ...quick, image: undefined, imageEmbeds: broken })).warnings, [
    /^The imageEmbeds hold numbers that are not finite/,
  ])
  // An image of any size: only its embedding counts.
  const image = { data: new Float32Array(3 * 5 * 7), shape: [1, 3, 5, 7] }
  t.match((await pipe.generate({ ...quick, image })).images[0], { width: 64, height: 64 })
  await using plain = await DiffusionPipeline.load()
  await t.rejects(plain.generate({ prompt: 'a', imageEmbeds: embeds(1, 20) }), {
    name: 'TypeError',
    message: 'Expected no imageEmbeds, as this model takes no embedding of an image',
  })
})

t.test('aborted while the image is encoded', async (t) => {
  await using pipe = await load()
  const controller = new AbortController()
  const run = pipe.generate({ image: photo, seed: 1, signal: controller.signal })
  controller.abort(new Error('enough'))
  await t.rejects(run, { message: 'enough' })
})

t.test('files that do not fit, and a pipeline from text alone', async (t) => {
  const broken = join(root, 'broken')
  const change = (path: string, values: object) => {
    cpSync(folder, broken, { recursive: true })
    const file = join(broken, path)
    const config = JSON.parse(readFileSync(file, 'utf8')) as object
    writeFileSync(file, JSON.stringify({ ...config, ...values }))
  }
  change('image_encoder/config.json', { projection_dim: 19 })
  await t.rejects(load(broken), { code: 'MODEL_SHAPE', message: /visual_projection.weight/ })
  rmSync(broken, { recursive: true })
  cpSync(folder, broken, { recursive: true })
  cpSync(join(packageRoot(), 'test/fixtures/vision/clip'), join(broken, 'image_encoder'), { recursive: true })
  const encoder = await ImageEncoder.load(join(broken, 'image_encoder'))
  t.equal(encoder.config.projectionWidth, 20)
  await encoder.dispose()
  rmSync(join(broken, 'image_normalizer', 'diffusion_pytorch_model.safetensors'))
  await t.rejects(load(broken), { code: 'MODEL_FORMAT', message: /image_normalizer: no weights found/ })
  rmSync(broken, { recursive: true })
  change('model_index.json', {
    _class_name: 'StableUnCLIPPipeline',
    prior: ['diffusers', 'PriorTransformer'],
    image_encoder: undefined,
  })
  await t.rejects(load(broken), {
    code: 'UNSUPPORTED_MODEL',
    message:
      /"StableUnCLIPPipeline"\) draws from text alone by a prior, .*: use a folder of StableUnCLIPImg2ImgPipeline/,
  })
})
