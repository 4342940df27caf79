/** Pictures of the Stable Diffusion XL family compared with those of diffusers (tools/fixtures/sdxl.py). */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline, quantizeModel, type GenerateOptions } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { equalImages, largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'sdxl')

interface Case {
  name: string
  unet: string
  options: GenerateOptions
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }

/** The base model with the bundled model's tokenizer for both text encoders. */
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-sdxl-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const base = join(root, 'base')
cpSync(join(fixtures, 'base'), base, { recursive: true })
for (const name of ['tokenizer', 'tokenizer_2'])
  cpSync(join(bundledModelPath(), 'tokenizer'), join(base, name), { recursive: true })

function optionsOf({ options }: Case): GenerateOptions {
  const given = { ...options, weighting: false }
  for (const key of ['image', 'mask'] as const)
    if (typeof given[key] === 'string') given[key] = join(fixtures, given[key])
  return given
}

async function pixels(file: string) {
  return sharp(join(fixtures, file)).removeAlpha().raw().toBuffer()
}

for (const net of new Set(cases.map(({ unet }) => unet))) {
  t.test(`pictures with the UNet ${net} equal those of diffusers`, async (t) => {
    await using pipe = await DiffusionPipeline.load(base, {
      precision: 'f32',
      ...(net === 'base' ? {} : { unet: join(fixtures, net) }),
    })
    for (const one of cases.filter(({ unet }) => unet === net)) {
      const { images } = await pipe.generate(optionsOf(one))
      await equalImages(t, images, one, fixtures)
    }
  })
}

t.test('a quantized file holds both text encoders and gives the same picture', async (t) => {
  const file = join(root, 'model.gguf')
  await quantizeModel(base, file, { type: 'f32' })
  const given = cases.find(({ name }) => name === 'text')!
  await using pipe = await DiffusionPipeline.load(file, { precision: 'f32' })
  t.equal(pipe.textEncoders.length, 2)
  const { images } = await pipe.generate(optionsOf(given))
  const worst = largestDifference(images[0].data, await pixels(given.files[0]))
  t.ok(worst <= 2, `differs by at most 2 of 255 levels (${worst})`)

  const small = join(root, 'small.gguf')
  const { groups } = await quantizeModel(base, small, { type: 'q8_0' })
  t.ok(groups.length > 0)
  await using quantized = await DiffusionPipeline.load(small)
  t.equal((await quantized.generate({ prompt: 'noto pizza', steps: 1, seed: 1 })).images.length, 1)
})

t.test('prompt embeddings need their pooled output', async (t) => {
  await using pipe = await DiffusionPipeline.load(base, { precision: 'f32' })
  const [first, second] = pipe.textEncoders
  const tokens = pipe.tokenizer.encode('noto pizza')
  const hidden = await first.encode(tokens)
  const { hidden: more, pooled } = await second.encodePooled(tokens)
  const length = hidden.shape[1]
  const data = new Float32Array(length * 40)
  for (let i = 0; i < length; i++) {
    data.set(hidden.data.subarray(i * 16, (i + 1) * 16), i * 40)
    data.set(more.data.subarray(i * 24, (i + 1) * 24), i * 40 + 16)
  }
  const promptEmbeds = { data, shape: [1, length, 40] }
  const rest = { steps: 6, guidanceScale: 5, seed: 1, scheduler: 'euler' } as const
  const { images } = await pipe.generate({ promptEmbeds, pooledPromptEmbeds: pooled, ...rest })
  t.ok(largestDifference(images[0].data, await pixels('text.png')) <= 2)
  await t.rejects(pipe.generate({ promptEmbeds, ...rest }), {
    name: 'TypeError',
    message: /Expected pooledPromptEmbeds, as promptEmbeds was given/,
  })
  await t.rejects(
    pipe.generate({
      promptEmbeds,
      pooledPromptEmbeds: { data: new Float32Array(3), shape: [1, 3] },
      ...rest,
    }),
    { name: 'RangeError', message: /shape \[any, 20\] for pooledPromptEmbeds/ },
  )
  await t.rejects(pipe.generate({ prompt: '', pooledPromptEmbeds: pooled }), {
    name: 'TypeError',
    message: /Expected promptEmbeds, as pooledPromptEmbeds was given/,
  })
})

t.test('long prompts, many chunks in both text encoders', async (t) => {
  await using pipe = await DiffusionPipeline.load(base)
  const prompt = Array(60).fill('pizza').join(' ')
  const result = await pipe.generate({ prompt, prompt2: 'crab', steps: 1, seed: 1, guidanceScale: 3 })
  t.equal(result.images.length, 1)
  t.ok(pipe.memoryNeeded().total > 0)
})

t.test('what a model cannot use is refused, and missing parts are named', async (t) => {
  await t.rejects(DiffusionPipeline.load(join(base, 'unet')), {
    code: 'UNSUPPORTED_MODEL',
    message: /it has no autoencoder: give one as the option vae/,
  })
  await t.rejects(DiffusionPipeline.load(base, { textEncoders: [join(base, 'text_encoder')] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /text encoders of a width of 40 together, found 16/,
  })
  await t.rejects(DiffusionPipeline.load(base, { vae: join(base, 'unet') }), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected an autoencoder, found none/,
  })
  await t.rejects(
    DiffusionPipeline.load(base, { unet: join(packageRoot(), 'test/fixtures/models/class-timestep/unet') }),
    { code: 'UNSUPPORTED_MODEL', message: /class embedding/ },
  )
  await using pipe = await DiffusionPipeline.load(base)
  for (const [options, message] of [
    [{ originalSize: { width: 0, height: 64 } }, /originalSize.width/],
    [{ cropTopLeft: { top: -1, left: 0 } }, /cropTopLeft.top/],
    [{ aestheticScore: 11 }, /aestheticScore/],
    [{ prompt2: ['a', 'b'] }, /Expected 1 or 1 strings for prompt2/],
  ] as const) {
    await t.rejects(pipe.generate({ prompt: 'a', ...(options as GenerateOptions) }), { message })
  }
})
