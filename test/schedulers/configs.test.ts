/** scheduler_config.json as diffusers writes it: the same trajectory, or a warning. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { ConfigReader } from '../../lib/models/families/config-reader.js'
import { knownSchedulerClasses } from '../../lib/models/families/scheduler-class.js'
import { CONFIG_KEY, readStoredConfig, writeStoredConfig } from '../../lib/models/families/stored-config.js'
import type { ModelDescription } from '../../lib/models/model-description.js'
import { scheduleFromDiffusers } from '../../lib/models/families/schedule.js'
import { createScheduler, defaultSchedulerName } from '../../lib/schedulers/index.js'
import type { ScheduleDescription, Tensor } from '../../lib/types.js'
import { model, readTrajectories, root, scheduleNamed, StoredNoise, tensor } from './fixtures.js'

const { start, noises } = readTrajectories()

const described: ModelDescription = {
  ...{ path: 'model', format: 'diffusers', architecture: '', textEncoders: [], imageSize: 64 },
  ...{ schedule: scheduleNamed('sd'), warnings: ['a warning'] },
}

interface ConfigCase {
  steps: number
  timesteps: number[]
  latents: number[]
  config: string
}
const cases = JSON.parse(
  readFileSync(join(root(), 'test', 'fixtures', 'schedulers', 'configs.json'), 'utf8'),
) as ConfigCase[]

async function read(t: Test, text: string): Promise<{ schedule: ScheduleDescription; warnings: string[] }> {
  const path = join(t.testdir({}), 'scheduler_config.json')
  writeFileSync(path, text)
  const warnings: string[] = []
  return { schedule: scheduleFromDiffusers(await ConfigReader.read(path), warnings), warnings }
}

for (const [i, { steps, timesteps, latents: want, config }] of cases.entries()) {
  const className = /"_class_name": "(\w+)"/.exec(config)![1]
  t.test(`${i} ${className}`, async (t) => {
    const { schedule, warnings } = await read(t, config)
    t.strictSame(warnings, [])
    const metadata = new Map([[CONFIG_KEY, writeStoredConfig({ ...described, schedule })]])
    const stored = await readStoredConfig('model.gguf', metadata)
    t.strictSame(stored!.schedule, schedule, 'a GGUF file of quantize keeps it')
    const name = defaultSchedulerName(schedule)
    const scheduler = createScheduler(name, steps, schedule)
    t.equal(scheduler.timesteps.length, timesteps.length)
    timesteps.forEach((want, i) => t.ok(Math.abs(scheduler.timesteps[i] - want) < 1e-3, `timestep ${i}`))
    scheduler.reset({ random: new StoredNoise(noises), begin: 0 })
    let latents: Tensor = tensor(start.data.map((x) => x * scheduler.initNoiseSigma))
    for (const timestep of scheduler.timesteps) {
      const prediction = model(scheduler.scaleModelInput(latents, timestep), timestep)
      latents = scheduler.step(prediction, timestep, latents)
    }
    const largest = Math.max(...want.map(Math.abs))
    const error = Math.max(...want.map((x, i) => Math.abs(x - latents.data[i]))) / largest
    t.ok(error < 5e-5, `${name}: ${error}`)
  })
}

t.test('a GGUF file of quantize keeps the warnings', async (t) => {
  const stored = await readStoredConfig('model.gguf', new Map([[CONFIG_KEY, writeStoredConfig(described)]]))
  t.strictSame(stored!.warnings, ['a warning'])
})

t.test('every known class has a method of its own', (t) => {
  for (const className of knownSchedulerClasses)
    t.not(defaultSchedulerName({ ...scheduleNamed('sd'), className }), 'dpm++-2m-karras', className)
  t.end()
})

t.test('fields and classes that are not supported are named', async (t) => {
  const warned = async (config: object) => (await read(t, JSON.stringify(config))).warnings
  const named: [config: Record<string, unknown>, field: string, value: string][] = [
    [{ _class_name: 'DDIMScheduler', thresholding: true }, 'thresholding', 'true'],
    [{ _class_name: 'DDIMScheduler', clip_sample_range: 2 }, 'clip_sample_range', '2'],
    [{ _class_name: 'DDPMScheduler', variance_type: 'learned_range' }, 'variance_type', '"learned_range"'],
    [{ _class_name: 'EulerDiscreteScheduler', timestep_type: 'continuous' }, 'timestep_type', '"continuous"'],
    [{ _class_name: 'EulerDiscreteScheduler', interpolation_type: 'log_linear' }, 'interpolation_type', '"log_linear"'],
    [{ _class_name: 'EulerDiscreteScheduler', sigma_max: 80 }, 'sigma_max', '80'],
    [{ _class_name: 'DPMSolverMultistepScheduler', algorithm_type: 'dpmsolver' }, 'algorithm_type', '"dpmsolver"'],
    [{ _class_name: 'DPMSolverMultistepScheduler', use_lu_lambdas: true }, 'use_lu_lambdas', 'true'],
    [{ _class_name: 'DPMSolverMultistepScheduler', solver_type: 'other' }, 'solver_type', '"other"'],
    [{ _class_name: 'DPMSolverMultistepScheduler', lambda_min_clipped: -4 }, 'lambda_min_clipped', '-4'],
    [{ _class_name: 'DPMSolverSinglestepScheduler', variance_type: 'learned' }, 'variance_type', '"learned"'],
    [{ _class_name: 'DEISMultistepScheduler', use_flow_sigmas: true }, 'use_flow_sigmas', 'true'],
    [{ _class_name: 'UniPCMultistepScheduler', predict_x0: false }, 'predict_x0', 'false'],
    [{ _class_name: 'UniPCMultistepScheduler', disable_corrector: [0] }, 'disable_corrector', '[0]'],
    [{ _class_name: 'LCMScheduler', timestep_scaling: 1 }, 'timestep_scaling', '1'],
  ] // prettier-ignore
  for (const [config, field, value] of named) {
    t.strictSame(
      await warned(config),
      [
        `scheduler_config.json has ${field}: ${value}, which is not supported: images differ from those of diffusers`,
      ],
      field,
    )
    t.strictSame(await warned({ ...config, [field]: undefined }), [], `without ${field}`)
  }
  t.strictSame(
    await warned({ _class_name: 'PNDMScheduler', use_karras_sigmas: true }),
    [],
    'of other classes',
  )
  t.strictSame(await warned({ _class_name: 'SASolverScheduler' }), [
    'scheduler_config.json names "SASolverScheduler", which is not supported: dpm++-2m-karras takes its place',
  ])
})

t.test("the files' options count with their own method alone", (t) => {
  const schedule: ScheduleDescription = {
    ...scheduleNamed('sd'),
    className: 'EulerDiscreteScheduler',
    methodOptions: { sigmas: 'karras', finalSigmasType: 'sigma_min' },
  }
  t.equal(defaultSchedulerName(schedule), 'euler-karras')
  const sigmas = (name: string, given = {}) => [...createScheduler(name, 5, schedule, given).sigmas]
  const plain = scheduleNamed('sd')
  t.strictSame(sigmas('euler'), [...createScheduler('euler', 5, plain).sigmas], 'a name without a suffix')
  t.strictSame(sigmas('heun'), [...createScheduler('heun', 5, plain).sigmas])
  t.strictSame(sigmas('euler-karras'), [...createScheduler('euler-karras', 5, plain).sigmas])
  const last = (schedule: ScheduleDescription, options = {}) => {
    const scheduler = createScheduler('euler', 1, schedule, options)
    const { timesteps } = scheduler
    return scheduler.step(model(start, timesteps[0]), timesteps[0], start).data
  }
  t.strictSame(last(schedule), last(plain, { finalSigmasType: 'sigma_min' }))
  t.strictSame(
    last(schedule, { finalSigmasType: 'zero' }),
    last(plain),
    'an option takes the place of theirs',
  )
  t.strictSame(last(schedule, { finalSigmasType: undefined }), last(schedule))
  t.throws(() => createScheduler('euler', 5, { ...plain, methodOptions: 7 as never }), TypeError)
  t.throws(
    () =>
      createScheduler('euler', 5, {
        ...plain,
        className: 'EulerDiscreteScheduler',
        methodOptions: { order: 3 },
      }),
    /order has no effect on euler/,
  )
  t.end()
})
