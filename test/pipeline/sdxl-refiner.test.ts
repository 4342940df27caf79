/** SDXL's refiner compared with diffusers (tools/fixtures/sdxl_refiner.py): after the base model, and alone. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import {
  bundledModelPath,
  DiffusionPipeline,
  openModel,
  quantizeModel,
  type GenerateOptions,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { refinerBegin } from '../../lib/pipeline/refiner.js'
import { safetensorsBytes, safetensorsHeader } from '../model-files/helpers.js'
import { equalImages, largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures')
const folder = join(fixtures, 'sdxl-refiner')

interface Case {
  name: string
  kind: 'both' | 'alone'
  options: GenerateOptions
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as { cases: Case[] }

/** Both models with the bundled model's tokenizers. */
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-refiner-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const [base, refiner] = ['base', 'refiner'].map((name) => join(root, name))
cpSync(join(fixtures, 'sdxl', 'base'), base, { recursive: true })
cpSync(join(folder, 'refiner'), refiner, { recursive: true })
for (const path of [join(base, 'tokenizer'), join(base, 'tokenizer_2'), join(refiner, 'tokenizer_2')])
  cpSync(join(bundledModelPath(), 'tokenizer'), path, { recursive: true })

function optionsOf({ options }: Case): GenerateOptions {
  const image = options.image
  return {
    ...options,
    weighting: false,
    ...(typeof image === 'string' && { image: join(folder, image) }),
  }
}

const pixels = async (file: string) => sharp(join(folder, file)).removeAlpha().raw().toBuffer()

for (const kind of ['both', 'alone'] as const) {
  t.test(`pictures of the refiner ${kind === 'both' ? 'after the base model' : 'alone'}`, async (t) => {
    await using pipe = await DiffusionPipeline.load(kind === 'both' ? base : refiner, {
      precision: 'f32',
      ...(kind === 'both' && { refiner }),
    })
    for (const one of cases.filter((each) => each.kind === kind)) {
      const { images, warnings } = await pipe.generate(optionsOf(one))
      await equalImages(t, images, one, folder)
      t.notMatch(warnings.join(), /refiner/)
    }
  })
}

t.test('quantized files, and a refiner without a text encoder', async (t) => {
  const both = cases.find(({ name }) => name === 'both')!
  const file = join(root, 'refiner.gguf')
  await quantizeModel(refiner, file, { type: 'f32' })
  await using pipe = await DiffusionPipeline.load(base, { precision: 'f32', refiner: file })
  const [image] = (await pipe.generate(optionsOf(both))).images
  t.ok(largestDifference(image.data, await pixels(both.files[0])) <= 2)

  // The model's second text encoder has the width that the refiner's has.
  const alone = join(refiner, 'unet')
  await using borrowing = await DiffusionPipeline.load(base, { precision: 'f32', refiner: alone })
  const again = await borrowing.generate(optionsOf(both))
  const { textEncoders } = await openModel(base)
  t.equal(textEncoders[1].config.width, 24)
  t.ok(largestDifference(again.images[0].data, image.data) > 2, 'another text encoder, another picture')
  await using own = await DiffusionPipeline.load(base, { precision: 'f32' })
  const { images } = await own.generate({ ...optionsOf(both), refinerStart: undefined })
  t.ok(largestDifference(images[0].data, image.data) > 2)
})

t.test('when the refiner takes over', async (t) => {
  const begin = (timesteps: number[], share: number, order = 1) =>
    refinerBegin({ timesteps, order }, share, 1000)
  const timesteps = [801, 601, 401, 201, 1]
  t.equal(begin(timesteps, 0.8), 4, '201 is not below 200')
  t.equal(begin(timesteps, 0.79), 3)
  t.equal(begin(timesteps, 1), 5)
  t.equal(begin(timesteps, 0), 0)
  t.equal(begin([801, 601, 601, 401, 401, 201], 0.5, 2), 4, 'not within a step: 401 begins at 3')

  await using pipe = await DiffusionPipeline.load(base, { refiner })
  const options = { prompt: 'noto pizza', steps: 4, seed: 1, guidanceScale: 3, scheduler: 'heun' } as const
  const events: number[] = []
  const { images, parameters } = await pipe.generate({
    ...options,
    refinerStart: 0.5,
    deepCache: { interval: 2, depth: pipe.unet.maxDepth },
    onStep: ({ step, steps }) => events.push(step, steps),
  })
  t.same(events.slice(0, 2), [1, events.at(-1)])
  t.match(parameters[0].extra, { Refiner: 'refiner', 'Refiner switch at': 0.5 })
  t.equal(images.length, 1)
  const without = await pipe.generate({ ...options, refinerStart: 1 })
  await using plain = await DiffusionPipeline.load(base)
  const same = await plain.generate(options)
  t.same(without.images[0].data, same.images[0].data, 'refinerStart 1 leaves the refiner out')
  t.equal(without.parameters[0].extra?.Refiner, undefined)
  const { warnings } = await pipe.generate({ ...options, scheduler: 'euler', steps: 1, refinerStart: 0.999 })
  t.same(warnings, ['refinerStart 0.999 of 1 steps leaves the refiner no step'])
  // With little strength, all steps are the refiner's.
  const image = join(folder, 'photo.png')
  t.equal((await pipe.generate({ ...options, image, strength: 0.25 })).images.length, 1)
})

t.test('the refiner keeps what is outside of a mask, also after a UNet that takes the mask', async (t) => {
  const image = join(fixtures, 'sdxl', 'photo.png')
  const mask = join(fixtures, 'sdxl', 'mask.png')
  const options = { prompt: 'noto pizza', image, steps: 6, seed: 3, scheduler: 'euler' } as const
  for (const unet of [undefined, join(fixtures, 'sdxl', 'inpainting')]) {
    await using pipe = await DiffusionPipeline.load(base, { refiner, unet })
    const drawn = await pipe.generate({ ...options, mask, outputType: 'latents', refinerStart: 0.5 })
    const encoded = await pipe.generate({ ...options, mask, outputType: 'latents', strength: 0 })
    const w = drawn.latents!.shape[3]
    for (let channel = 0; channel < 4; channel++) {
      const at = channel * w * w + w - 1
      const [found, kept] = [drawn.latents!.data[at], encoded.latents!.data[at]]
      // Another sample of the same distribution in the second case, whose deviation is small.
      t.ok(Math.abs(found - kept) < (unet === undefined ? 1e-5 : 0.5), `${found} is ${kept}`)
    }
  }
})

t.test('memory of both models', async (t) => {
  await using plain = await DiffusionPipeline.load(base)
  await using pipe = await DiffusionPipeline.load(base, { refiner })
  t.ok(pipe.memoryNeeded().weights > 1.5 * plain.memoryNeeded().weights)
  t.equal(pipe.model.refiner, 'refiner')
  t.equal(pipe.refiner?.config.contextWidth, 24)
  const refining = pipe.refiner!
  await pipe.dispose()
  t.equal(refining.disposed, true)
})

t.test('what cannot be a refiner is refused, and options that need one', async (t) => {
  const load = (path: string, options = {}) => DiffusionPipeline.load(base, { refiner: path, ...options })
  await t.rejects(load(join(refiner, 'vae')), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a refiner, but it has no UNet/,
  })
  await t.rejects(load(join(fixtures, 'sdxl', 'inpainting')), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a refiner of 4 latent channels, found 9 and 4/,
  })
  await t.rejects(load(join(fixtures, 'sdxl', 'lcm')), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a refiner without a guidance embedding, found one/,
  })
  await t.rejects(load(join(root, 'none')), { code: 'MODEL_NOT_FOUND' })
  await t.rejects(load(refiner, { textEncoders: [] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected text encoders in a model with a refiner, found none/,
  })
  await t.rejects(DiffusionPipeline.load(base, { refiner: 3 as unknown as string }), { name: 'TypeError' })
  await using plain = await DiffusionPipeline.load(base)
  await t.rejects(plain.generate({ prompt: 'a', refinerStart: 0.5 }), {
    name: 'TypeError',
    message: 'Expected a pipeline loaded with refiner, as refinerStart was given',
  })
  await using pipe = await load(refiner)
  await t.rejects(pipe.generate({ prompt: 'a', refinerStart: 1.5 }), { name: 'RangeError' })
  const promptEmbeds = { data: new Float32Array(32 * 40), shape: [1, 32, 40] }
  const pooledPromptEmbeds = { data: new Float32Array(20), shape: [1, 20] }
  await t.rejects(pipe.generate({ promptEmbeds, pooledPromptEmbeds }), {
    name: 'TypeError',
    message: 'Expected prompt in place of promptEmbeds, as the pipeline has a refiner',
  })
  const { images } = await pipe.generate({
    promptEmbeds,
    pooledPromptEmbeds,
    refinerStart: 1,
    steps: 1,
    seed: 1,
  })
  t.equal(images.length, 1)
})

t.test('a LoRA changes the model and not its refiner, as in diffusers', async (t) => {
  // The refiner has a layer of this name, too.
  const layer = 'down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q'
  const source = (path: string) => openModel(path).then(({ unet }) => unet!.source)
  const [own, other] = [await source(base), await source(refiner)].map(({ tensors }) =>
    tensors.find(({ name }) => name === `${layer}.weight`),
  )
  t.ok(own && other, 'both have it')
  const [outer, inner] = own!.shape
  const shapes = { A: [1, inner], B: [outer, 1] }
  const header = safetensorsHeader({
    [`unet.${layer}.lora_A.weight`]: { shape: shapes.A, type: 'F32' },
    [`unet.${layer}.lora_B.weight`]: { shape: shapes.B, type: 'F32' },
  })
  const lora = join(root, 'lora.safetensors')
  const values = Float32Array.from({ length: inner + outer }, (_, i) => Math.sin(i + 1))
  writeFileSync(lora, Buffer.concat([safetensorsBytes(header.header), Buffer.from(values.buffer)]))
  const draw = async (loras: string[], options: GenerateOptions) => {
    await using pipe = await DiffusionPipeline.load(base, { precision: 'f32', refiner, loras })
    const { images, adapters } = await pipe.generate({ prompt: 'noto pizza', steps: 4, seed: 1, ...options })
    t.same(
      adapters.map(({ applied }) => applied),
      loras.map(() => 2),
    )
    return images[0].data
  }
  const photo = { data: new Float32Array(3 * 64 * 64).fill(0.3), shape: [1, 3, 64, 64] }
  // With little strength, all steps are the refiner's; with a start of 1, all are the model's.
  const refined = { image: photo, strength: 0.25, refinerStart: 0.2 }
  t.equal(largestDifference(await draw([lora], refined), await draw([], refined)), 0, "the refiner's steps")
  const whole = { refinerStart: 1 }
  t.ok(largestDifference(await draw([lora], whole), await draw([], whole)) > 2, "the model's steps")
})
