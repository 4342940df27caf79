/** The ×2 latent upscaler, compared with diffusers (tools/fixtures/latent_upscaler.py), and its options. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import {
  bundledModelPath,
  DiffusionPipeline,
  quantizeModel,
  type GenerateOptions,
  type LoadOptions,
  type Tensor,
} from '../../lib/index.js'
import { native } from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { difference } from '../models/compute.js'
import { readTensors } from '../models/fixtures.js'
import { equalImages, largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'latent-upscaler')

interface Case {
  name: string
  options: GenerateOptions
  files: string[]
}

const { cases, predictions } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as {
  cases: Case[]
  predictions: { unet: string; name: string }[]
}
const golden = readTensors(join(fixtures, 'golden.safetensors'))
const tensor = (name: string): Tensor => {
  const { data, shape } = golden.get(name)!
  return { data: data as Float32Array, shape }
}

/** The model of the fixtures, with the bundled model's tokenizer. */
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-latent-upscaler-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const folder = join(root, 'upscaler')
cpSync(join(fixtures, 'upscaler'), folder, { recursive: true })
cpSync(join(bundledModelPath(), 'tokenizer'), join(folder, 'tokenizer'), { recursive: true })

const load = (options: LoadOptions = {}) => DiffusionPipeline.load(folder, { precision: 'f32', ...options })

function optionsOf({ options }: Case): GenerateOptions {
  const { image } = options
  const given = golden.has(image as string) ? tensor(image as string) : join(fixtures, image as string)
  return { ...options, image: given, weighting: false }
}
const caseOf = (name: string) => cases.find((one) => one.name === name)!
const photo = join(fixtures, 'photo.png')
const quick = { prompt: 'noto pizza', steps: 2, seed: 1, image: photo } as const

for (const { unet: name, name: key } of predictions) {
  t.test(`prediction ${key} equals that of diffusers`, async (t) => {
    const { unet } = await openModel(join(fixtures, name))
    unet!.source.precision = 'f32'
    const model = await native().loadUnet(unet!.config, unet!.source)
    const [latents, context, output] = ['latents', 'context', 'output'].map((of) => tensor(`${key}/${of}`))
    const [n, , h, w] = latents.shape
    const conditioning = {
      timesteps: tensor(`${key}/timesteps`).data,
      context: context.data,
      contextLength: context.shape[1],
      timestepCond: tensor(`${key}/timestep_cond`).data,
    }
    const call = { latents: latents.data, n, h, w, conditioning }
    const found = await model.predict(call)
    const { error, scale } = difference(found, output.data)
    t.ok(error <= 1e-5 * scale, `off by ${error} of ${scale}`)
    await model.trim()
    await model.prepare({ conditioning, n })
    t.same(await model.predict(call), found, 'the same with prepared timesteps')
    await model.dispose()
  })
}

t.test('pictures equal those of diffusers', async (t) => {
  await using pipe = await load()
  for (const one of cases) {
    const { images, warnings } = await pipe.generate(optionsOf(one))
    await equalImages(t, images, one, fixtures)
    t.same(warnings, [], one.name)
  }
})

t.test('what it is, needs, cannot use, and writes down', async (t) => {
  await using pipe = await load()
  t.match(pipe.model, { architecture: 'Stable Diffusion ×2 latent upscaler', factor: 4, imageSize: 64 })
  t.equal(pipe.model.schedule.predictionType, 'sample')
  const { image: _, ...withoutImage } = quick
  await t.rejects(pipe.generate(withoutImage), {
    name: 'TypeError',
    message: 'Expected image, as this model enlarges one',
  })
  await t.rejects(pipe.generate({ ...quick, mask: photo }), {
    message: 'Expected no mask, as this model enlarges the whole image',
  })
  await t.rejects(pipe.generate({ ...quick, deepCache: true }), {
    name: 'TypeError',
    message: "Expected no deepCache, as this model's UNet does not support it",
  })
  await t.rejects(pipe.generate({ ...quick, tokenMerging: 0.5 }), {
    name: 'TypeError',
    message: "Expected no tokenMerging, as this model's UNet does not support it",
  })
  const { images, parameters, warnings } = await pipe.generate({ ...quick, strength: 0.5, noiseLevel: 20 })
  t.match(images[0], { width: 64, height: 64 })
  t.match(parameters[0], { guidanceScale: 9, strength: undefined, prompt: 'noto pizza' })
  t.match(warnings, [
    /^strength has no effect on a model that enlarges images$/,
    /^noiseLevel has no effect on a model that adds no noise to an image$/,
  ])
})

t.test('sizes of images, of latents, and of the result', async (t) => {
  await using pipe = await load()
  const pixels = (width: number, height: number, channels = 3) => ({
    data: new Float32Array(channels * height * width).fill(0.3),
    shape: [1, channels, height, width],
  })
  await t.test('an image of another size is scaled to the next smaller one that fits', async (t) => {
    const { images } = await pipe.generate({
      ...quick,
      image: join(fixtures, 'landscape.png'),
      width: 96,
      height: 64,
    })
    t.match(images[0], { width: 96, height: 64 })
    await t.rejects(pipe.generate({ ...quick, width: 72 }), {
      name: 'RangeError',
      message: /^Expected multiple of 32 for width but received 72/,
    })
  })
  await t.test('a tensor is not scaled', async (t) => {
    t.match((await pipe.generate({ ...quick, image: pixels(48, 16) })).images[0], { width: 96, height: 32 })
    await t.rejects(pipe.generate({ ...quick, image: pixels(44, 16) }), {
      name: 'RangeError',
      message: 'Expected 32×16 pixels for image but received 44×16',
    })
    await t.rejects(pipe.generate({ ...quick, image: pixels(16, 16, 5) }), {
      name: 'RangeError',
      message: 'Expected shape [1, 3 or 4, h, w] for image but received [1, 5, 16, 16]',
    })
  })
  await t.test('latents', async (t) => {
    t.match((await pipe.generate({ ...quick, image: pixels(8, 4, 4) })).images[0], { width: 64, height: 32 })
    await t.rejects(pipe.generate({ ...quick, image: pixels(9, 4, 4) }), {
      name: 'RangeError',
      message: 'Expected shape [1, 4, 4, 8] for image but received [1, 4, 4, 9]',
    })
  })
  const latents = pixels(16, 16, 4)
  t.equal((await pipe.generate({ ...quick, latents })).images.length, 1, 'with initial noise')
})

t.test('from a model of the same latents, without a picture between them', async (t) => {
  const first = join(root, 'base')
  cpSync(join(fixtures, '..', 'conditioned', 'base'), first, { recursive: true })
  cpSync(join(bundledModelPath(), 'tokenizer'), join(first, 'tokenizer'), { recursive: true })
  await using base = await DiffusionPipeline.load(first)
  const { latents } = await base.generate({ prompt: 'noto pizza', steps: 2, seed: 1, width: 32, height: 32, outputType: 'latents' }) // prettier-ignore
  await using pipe = await load()
  const { images } = await pipe.generate({ ...quick, image: latents })
  t.match(images[0], { width: 64, height: 64 })
  const again = await pipe.generate({ ...quick, image: latents, outputType: 'latents' })
  t.same(again.latents!.shape, [1, 4, 16, 16])
})

t.test('schedulers of every kind draw nearly the same picture', async (t) => {
  await using pipe = await load()
  const draw = async (scheduler: GenerateOptions['scheduler']) =>
    (await pipe.generate({ ...quick, steps: 60, guidanceScale: 1, scheduler })).images[0].data
  const truth = await draw('euler')
  for (const scheduler of ['ddim', 'dpm++-2m', 'heun'] as const) {
    const found = await draw(scheduler)
    const mean = found.reduce((sum, x, i) => sum + Math.abs(x - truth[i]), 0) / found.length
    t.ok(mean < 12, `${scheduler}: ${mean} on average`)
  }
})

t.test('files of every kind', async (t) => {
  const one = caseOf('guided')
  for (const [file, type] of [
    ['f32.gguf', 'f32'],
    ['q8.gguf', 'q8_0'],
  ] as const) {
    // prettier-ignore
    const path = join(root, file)
    await quantizeModel(folder, path, { type })
    await using pipe = await DiffusionPipeline.load(path, { precision: 'f32' })
    t.equal(pipe.model.architecture, 'Stable Diffusion ×2 latent upscaler')
    const { images } = await pipe.generate(optionsOf(one))
    if (type === 'f32') await equalImages(t, images, one, fixtures)
    else {
      await using truth = await load()
      const { data } = (await truth.generate(optionsOf(one))).images[0]
      const mean = data.reduce((sum, x, i) => sum + Math.abs(x - images[0].data[i]), 0) / data.length
      t.ok(mean < 16, `${type}: ${mean} on average`)
    }
  }
})

t.test('lowMemory, int8 and planned memory', async (t) => {
  const one = caseOf('guided')
  await using streamed = await load({ lowMemory: true })
  await equalImages(t, (await streamed.generate(optionsOf(one))).images, one, fixtures)
  await using pipe = await load()
  t.ok(streamed.memoryNeeded().weights < pipe.memoryNeeded().weights / 4)
  const small = pipe.memoryNeeded({ width: 64, height: 64 }).working
  t.ok(pipe.memoryNeeded({ width: 128, height: 64 }).working > small)
  t.ok(pipe.memoryNeeded({ width: 64, height: 64, batchSize: 2 }).working > small)
  const { memory, seconds } = await DiffusionPipeline.estimate(
    folder,
    {},
    { width: 64, height: 64, steps: 3 },
  )
  t.ok(memory.total > 0 && seconds.step > 0 && seconds.denoise >= 3 * seconds.step)
  await using rounded = await load({ precision: 'int8' })
  t.ok(
    largestDifference((await rounded.generate(optionsOf(one))).images[0].data, new Uint8Array(64 * 64 * 3)) >
      50,
  )
})

t.test('abort, progress and dispose', async (t) => {
  const pipe = await load()
  const seen: number[] = []
  await pipe.generate({ ...quick, steps: 3, onStep: ({ step, sigma }) => { seen.push(step); t.ok(sigma! > 0) } }) // prettier-ignore
  t.same(seen, [1, 2, 3])
  const controller = new AbortController()
  const reason = new Error('enough')
  await t.rejects(
    pipe.generate({ ...quick, steps: 3, signal: controller.signal, onStep: () => controller.abort(reason) }),
    reason,
  )
  const running = pipe.generate({ ...quick, steps: 50, onStep: () => void pipe.dispose() })
  await t.rejects(running, { code: 'DISPOSED' })
})

t.test('what does not go with it', async (t) => {
  await t.rejects(load({ predictionType: 'epsilon' }), {
    name: 'RangeError',
    message: /^Expected 'sample' for predictionType/,
  })
  await t.rejects(load({ refiner: folder }), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected no refiner with this model/,
  })
  await t.rejects(DiffusionPipeline.load(join(fixtures, 'two-levels')), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a whole model, but it has no autoencoder/,
  })
})

t.test('folders that are damaged or of another architecture', async (t) => {
  const changed = async (change: (config: Record<string, unknown>) => void) => {
    const path = mkdtempSync(join(root, 'changed-'))
    cpSync(folder, path, { recursive: true })
    const file = join(path, 'unet', 'config.json')
    const config = JSON.parse(readFileSync(file, 'utf8'))
    change(config)
    writeFileSync(file, JSON.stringify(config))
    return DiffusionPipeline.load(path)
  }
  for (const [key, value, message] of [
    [
      'mid_block_type',
      'UNetMidBlock2DCrossAttn',
      /expected null for mid_block_type but received "UNetMidBlock2D/,
    ],
    ['norm_num_groups', 32, /expected null for norm_num_groups but received 32/],
    ['act_fn', 'silu', /expected "gelu" for act_fn/],
    ['time_embedding_type', 'positional', /expected "fourier" for time_embedding_type/],
    ['timestep_post_act', null, /expected "gelu" for timestep_post_act/],
    ['time_embedding_act_fn', 'silu', /expected null for time_embedding_act_fn/],
    ['time_cond_proj_dim', null, /integer between 1 and \d+ for time_cond_proj_dim/],
    ['attention_head_dim', [8, 8, 8, 4], /the same number at every level for attention_head_dim/],
    ['attention_head_dim', 24, /headWidth to divide blockChannels/],
    ['block_out_channels', [32, 32, 48, 64], /blockChannels\[2\] to be a multiple of 32/],
    [
      'down_block_types',
      ['KDownBlock2D', 'KCrossAttnDownBlock2D', 'DownBlock2D', 'KCrossAttnDownBlock2D'],
      /for down_block_types\[2\] but received "DownBlock2D"/,
    ],
    [
      'down_block_types',
      ['KCrossAttnDownBlock2D', 'KCrossAttnDownBlock2D', 'KCrossAttnDownBlock2D', 'KCrossAttnDownBlock2D'],
      /the blocks of down_block_types in reverse for up_block_types/,
    ],
    ['in_channels', 4, /tensor conv_in.weight: expected shape \[32,4,1,1\]/],
    ['time_embedding_dim', 128, /tensor time_proj.weight: expected shape \[64\]/],
    ['layers_per_block', 3, /tensor down_blocks.\d.\S+ .*is missing/],
  ] as const)
    // prettier-ignore
    await t.rejects(changed((config) => (config[key] = value)), { message }, `${key} ${String(value)}`)
})
