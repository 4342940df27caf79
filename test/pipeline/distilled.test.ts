/** Distilled models: fewer layers, no middle block, a tiny autoencoder as the only one (tools/fixtures/distilled.py). */
import { cpSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import {
  AutoencoderTiny,
  bundledModelPath,
  DiffusionPipeline,
  type GenerateOptions,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { largestDifference } from './support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'distilled')

interface Case {
  name: string
  unet: string
  options: GenerateOptions
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }

/** The pipeline with the bundled model's tokenizer. */
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-distilled-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const sdxs = join(root, 'sdxs')
cpSync(join(fixtures, 'sdxs'), sdxs, { recursive: true })
cpSync(join(bundledModelPath(), 'tokenizer'), join(sdxs, 'tokenizer'), { recursive: true })

const quick = { prompt: 'noto pizza', steps: 1, seed: 1 } as const

for (const net of new Set(cases.map(({ unet }) => unet))) {
  t.test(`pictures with the UNet ${net} equal those of diffusers`, async (t) => {
    await using pipe = await DiffusionPipeline.load(sdxs, {
      precision: 'f32',
      ...(net !== 'base' && { unet: join(fixtures, net) }),
    })
    for (const { name, options } of cases.filter(({ unet }) => unet === net)) {
      const given = { ...options, weighting: false }
      if (typeof given.image === 'string') given.image = join(fixtures, given.image)
      const { images } = await pipe.generate(given)
      const wanted = await sharp(join(fixtures, `${name}.png`))
        .removeAlpha()
        .raw()
        .toBuffer()
      const worst = largestDifference(images[0].data, wanted)
      t.ok(worst <= 2, `${name}: differs by at most 2 of 255 levels (${worst})`)
    }
  })
}

t.test('a model whose only autoencoder is a tiny one', async (t) => {
  await using pipe = await DiffusionPipeline.load(sdxs)
  t.ok(pipe.tinyVae instanceof AutoencoderTiny)
  t.throws(() => pipe.vae, {
    code: 'UNSUPPORTED_MODEL',
    message: /has no autoencoder but a tiny one: use tinyVae/,
  })
  t.match(pipe.model, { factor: 4, imageSize: 64, components: { vae: { parameters: Number } } })
  const { working, weights, total } = pipe.memoryNeeded()
  t.ok(working > 0 && total === working + weights)
  await t.rejects(pipe.generate({ ...quick, decoder: 'full' }), {
    name: 'TypeError',
    message: "Expected 'tiny' for decoder, as this model has no autoencoder but a tiny one",
  })
  let previews = 0
  await pipe.generate({ ...quick, onStep: ({ preview }) => (previews += Number(preview.width === 64)) })
  t.equal(previews, 1, 'previews are whole pictures')
})

t.test('a tiny autoencoder in place of a model’s own, and the other way round', async (t) => {
  await using tiny = await DiffusionPipeline.load(undefined, { vae: join(sdxs, 'vae') })
  t.throws(() => tiny.vae, { code: 'UNSUPPORTED_MODEL' })
  t.match((await tiny.generate(quick)).images[0], { width: 64, height: 64 })
  await using full = await DiffusionPipeline.load(sdxs, { vae: join(bundledModelPath(), 'vae') })
  t.equal(full.vae.factor, 4)
  const [a, b] = [await full.generate(quick), await full.generate({ ...quick, decoder: 'tiny' })]
  t.notSame(a.images[0].data, b.images[0].data)
})
