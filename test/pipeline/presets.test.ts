/** Presets, and what the files tell: which defaults a run has. Their pictures are among those of sdxl.test.ts. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bundledModelPath, DiffusionPipeline, presets, type GenerateOptions } from '../../lib/index.js'
import { checkGenerateOptions } from '../../lib/options/index.js'
import type { ModelFacts, PresetName } from '../../lib/options/index.js'

const facts: ModelFacts = {
  ...{ imageSize: 64, factor: 8, latentChannels: 4, contextWidth: 8, maxDepth: 1, maxClipSkip: 1 },
}
const check = (options: GenerateOptions, more: Partial<ModelFacts> = {}) =>
  checkGenerateOptions({ prompt: 'a', ...options }, { ...facts, ...more })

t.test('a preset sets what was not given', (t) => {
  for (const [name, preset] of Object.entries(presets)) {
    const { scheduler, schedulerOptions, steps, guidanceScale } = check({ preset: name as PresetName })
    t.strictSame(
      { scheduler, schedulerOptions, steps, guidanceScale },
      {
        ...{ scheduler: preset.scheduler, schedulerOptions: preset.schedulerOptions },
        ...{ steps: preset.steps, guidanceScale: preset.guidanceScale },
      },
      name,
    )
  }
  t.match(check({ preset: 'lightning', steps: 8, guidanceScale: 2 }), {
    ...{ scheduler: 'euler', steps: 8, guidanceScale: 2, schedulerOptions: { spacing: 'trailing' } },
  })
  t.match(check({ preset: 'tcd', schedulerOptions: { eta: 0.9 } }), { schedulerOptions: { eta: 0.9 } })
  t.strictSame(check({ preset: 'tcd', scheduler: 'ddim' }).schedulerOptions, undefined, 'another scheduler')
  t.strictSame(check({ preset: 'dmd2', steps: 2 }).schedulerOptions, undefined, 'timesteps for other steps')
  t.end()
})

t.test('presets that the files tell', (t) => {
  t.match(check({}, { preset: 'lcm' }), { steps: 4, guidanceScale: 1, scheduler: undefined })
  t.match(check({}, { preset: 'lcm', embedsGuidance: true }), { steps: 4, guidanceScale: 8.5 })
  t.match(check({ steps: 6, guidanceScale: 3 }, { preset: 'lcm' }), { steps: 6, guidanceScale: 3 })
  t.match(check({ preset: 'turbo' }, { preset: 'lcm' }), { steps: 1, guidanceScale: 0 })
  t.match(check({}), { steps: 25, guidanceScale: 7.5 })
  t.end()
})

const root = mkdtempSync(join(tmpdir(), 'node-diffusion-presets-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))

t.test('a folder with the scheduler of a consistency model', async (t) => {
  const folder = join(root, 'lcm')
  cpSync(bundledModelPath(), folder, { recursive: true })
  const path = join(folder, 'scheduler', 'scheduler_config.json')
  const config = JSON.parse(readFileSync(path, 'utf8')) as object
  writeFileSync(path, JSON.stringify({ ...config, _class_name: 'TCDScheduler', timestep_scaling: 5 }))
  await using pipe = await DiffusionPipeline.load(folder)
  t.equal(pipe.model.defaultScheduler, 'tcd')
  const { parameters } = await pipe.generate({ prompt: 'noto pizza', outputType: 'latents' })
  t.match(parameters, [{ steps: 4, guidanceScale: 0, scheduler: 'tcd' }])
})

t.test('what is not supported is in the warnings, unless another method is used', async (t) => {
  const folder = join(root, 'warned')
  cpSync(bundledModelPath(), folder, { recursive: true })
  const path = join(folder, 'scheduler', 'scheduler_config.json')
  const config = JSON.parse(readFileSync(path, 'utf8')) as object
  writeFileSync(path, JSON.stringify({ ...config, _class_name: 'DDIMScheduler', thresholding: true }))
  await using pipe = await DiffusionPipeline.load(folder)
  const [warning] = pipe.model.warnings
  t.match(warning, /^scheduler_config.json has thresholding: true/)
  const run = { prompt: 'noto pizza', steps: 1, outputType: 'latents' } as const
  t.ok((await pipe.generate(run)).warnings.includes(warning))
  t.notOk((await pipe.generate({ ...run, scheduler: 'euler' })).warnings.includes(warning))
})

t.test('load() takes what the files do not tell', async (t) => {
  const run = { prompt: 'noto pizza', steps: 2, seed: 1, outputType: 'latents' } as const
  await using told = await DiffusionPipeline.load(undefined, {
    ...{ predictionType: 'epsilon', rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' },
  })
  t.match(told.model.schedule, {
    ...{ predictionType: 'epsilon', rescaleBetasZeroSnr: true, timestepSpacing: 'trailing' },
  })
  await using pipe = await DiffusionPipeline.load()
  const { latents } = await pipe.generate({
    ...run,
    scheduler: pipe.model.defaultScheduler,
    schedulerOptions: { predictionType: 'epsilon', rescaleBetasZeroSnr: true, spacing: 'trailing' },
  })
  t.strictSame((await told.generate(run)).latents!.data, latents!.data)
  t.notSame((await pipe.generate(run)).latents!.data, latents!.data)
  for (const options of [{ predictionType: 1 }, { rescaleBetasZeroSnr: 'yes' }, { timestepSpacing: null }])
    await t.rejects(DiffusionPipeline.load(undefined, options as never), TypeError)
  for (const options of [{ predictionType: 'v' }, { timestepSpacing: 'even' }])
    await t.rejects(DiffusionPipeline.load(undefined, options as never), RangeError)
})
