/** The acceleration options: what they compute, what they must not change, and what they refuse. */
import t from 'tap'
import { inInterval } from '../../lib/options/index.js'
import {
  bundledModelPath,
  DeepCache,
  DiffusionPipeline,
  openModel,
  type GenerateOptions,
  type UnetInput,
} from '../../lib/index.js'
import { Unet } from '../../lib/pipeline/unet.js'
import { largestDifference, quick } from './support.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())
const eight: GenerateOptions = { ...quick, steps: 8, scheduler: 'euler', outputType: 'latents' }

/** The final latents of a run. */
async function latents(options: GenerateOptions): Promise<Float32Array> {
  return (await pipe.generate({ ...eight, ...options })).latents!.data
}

const off = await latents({})

/** The batch size of each UNet call of a run. */
async function batches(options: GenerateOptions): Promise<number[]> {
  const { unet } = pipe
  const { predictFrom } = unet
  const list: number[] = []
  unet.predictFrom = (input, ...rest) => {
    list.push(input.latents.shape[0])
    return predictFrom.call(unet, input, ...rest)
  }
  try {
    await pipe.generate({ ...eight, ...options })
    return list
  } finally {
    unet.predictFrom = predictFrom
  }
}

t.test('options that are off change nothing', async (t) => {
  const same: GenerateOptions[] = [
    { guidanceInterval: [0, 1] },
    { deepCache: false },
    { deepCache: { interval: 1 } },
    { deepCache: { interval: 1, depth: 3 } },
    { tokenMerging: 0 },
  ]
  for (const options of same)
    t.equal(largestDifference(await latents(options), off), 0, JSON.stringify(options))
})

t.test('each option changes the image slightly', async (t) => {
  const some: GenerateOptions[] = [
    { guidanceInterval: [0.25, 0.75] },
    { deepCache: true },
    { deepCache: { interval: 2, depth: 2 } },
    { tokenMerging: 0.5 },
    { guidanceInterval: [0, 0.5], deepCache: true, tokenMerging: 0.25 },
  ]
  for (const options of some) {
    const found = await latents(options)
    let [squares, all] = [0, 0]
    for (let i = 0; i < off.length; i++) {
      squares += (found[i] - off[i]) ** 2
      all += off[i] ** 2
    }
    const relative = Math.sqrt(squares / all)
    t.ok(relative > 0.001 && relative < 0.7, `${JSON.stringify(options)}: ${relative.toFixed(3)}`)
    t.equal(largestDifference(await latents(options), found), 0, 'in the same way every time')
  }
})

t.test('guidanceInterval selects steps', async (t) => {
  const guided = async (options: GenerateOptions) =>
    (await batches(options)).map((n) => (n === 2 ? 'g' : n === 1 ? '.' : '?')).join('')
  t.equal(await guided({}), 'gggggggg')
  t.equal(await guided({ guidanceInterval: [0.25, 0.75] }), '..gggg..')
  t.equal(await guided({ guidanceInterval: [0, 0.5] }), 'gggg....')
  t.equal(await guided({ guidanceInterval: [0.5, 1] }), '....gggg')
  t.equal(
    await guided({ guidanceInterval: [0.2, 0.8] }),
    '..gggg..',
    'only steps that lie completely in the interval',
  )
  t.equal(await guided({ guidanceInterval: [0.3, 0.31] }), '........')
  t.equal(await guided({ guidanceInterval: [0.25, 0.75], guidanceScale: 1 }), '........')
  const image = { data: new Float32Array(3 * 64 * 64).fill(0.5), shape: [1, 3, 64, 64] }
  t.equal(
    await guided({ guidanceInterval: [0.5, 1], image, strength: 0.75 }),
    '..gggg',
    'skipped steps count',
  )
  t.equal(
    await guided({ guidanceInterval: [0.25, 0.75], scheduler: 'heun', steps: 4 }),
    '..gggg.',
    'all calls of a step are treated alike',
  )
  const unguided = await latents({ guidanceInterval: [0.3, 0.31] })
  t.equal(
    largestDifference(unguided, await latents({ guidanceScale: 1 })),
    0,
    'an empty interval is the same as no guidance',
  )
  const { warnings } = await pipe.generate({ ...quick, guidanceScale: 1, guidanceInterval: [0, 0.5] })
  t.match(warnings.join(), /guidanceInterval has no effect without guidance/)
})

t.test('the interval is exact for every number of steps', async (t) => {
  for (const steps of [1, 2, 3, 7, 10, 20, 25, 30, 50]) {
    const schedule = { timesteps: new Float64Array(steps) }
    for (let from = 0; from < steps; from++) {
      for (let to = from + 1; to <= steps; to++) {
        const interval: [number, number] = [from / steps, to / steps]
        const count = Array.from(schedule.timesteps).filter((_, i) =>
          inInterval(interval, i, schedule),
        ).length
        if (count !== to - from) t.fail(`${from}…${to} of ${steps}: ${count}`)
      }
    }
  }
  t.ok(inInterval([0.1, 0.3], 2, { timesteps: new Float64Array(10) }), 'decimals are not rounded')
})

t.test('several prompts outside the interval', async (t) => {
  const two = {
    prompt: ['noto pizza', 'flat fire'],
    batchSize: 2,
    guidanceInterval: [0.25, 0.75] as [number, number],
  }
  const all = await latents(two)
  const alone = await latents({ ...two, prompt: 'flat fire', batchSize: 1, seed: 4 })
  const size = alone.length
  t.ok(largestDifference(all.subarray(3 * size), alone) < 1e-4, 'each image is the same as by itself')
})

/** The calls of a run that computed everything. */
async function wholes(options: GenerateOptions): Promise<string> {
  let pattern = ''
  const { next } = DeepCache.prototype
  DeepCache.prototype.next = function (shape) {
    const asked = next.call(this, shape)
    pattern += asked.reuse ? '.' : 'F'
    return asked
  }
  try {
    await pipe.generate({ ...eight, ...options })
    return pattern
  } finally {
    DeepCache.prototype.next = next
  }
}

t.test('deepCache computes everything in every n-th call', async (t) => {
  t.equal(await wholes({}), '')
  t.equal(await wholes({ deepCache: true }), 'F..F..F.')
  t.equal(await wholes({ deepCache: { interval: 2 } }), 'F.F.F.F.')
  t.equal(await wholes({ deepCache: { interval: 1000 } }), 'F.......')
  t.equal(
    await wholes({ deepCache: true, scheduler: 'heun', steps: 3 }),
    'F..F.',
    'calls are counted, not steps',
  )
  t.equal(
    await wholes({ deepCache: { interval: 4 }, guidanceInterval: [0.25, 0.75] }),
    'F.F...F.',
    'another batch size starts again',
  )
})

t.test('deepCache with other callers in between', async (t) => {
  const options: GenerateOptions = { ...eight, deepCache: true, guidanceInterval: [0, 0.75] }
  const alone = await latents(options)
  const others: GenerateOptions[] = [
    { ...options, seed: 2, prompt: 'flat fire' },
    { ...options, seed: 3, width: 96 },
    { ...options, seed: 4, deepCache: { interval: 2, depth: 4 }, tokenMerging: 0.5 },
  ]
  const expected = []
  for (const other of others) expected.push(await latents(other))
  const { config } = pipe.unet
  const input: UnetInput = {
    latents: { data: new Float32Array(2 * 4 * 16 * 16).fill(0.1), shape: [2, 4, 16, 16] },
    timestep: 500,
    context: {
      data: new Float32Array(2 * 5 * config.contextWidth).fill(0.1),
      shape: [2, 5, config.contextWidth],
    },
  }
  const runs = [options, ...others].map((o) => pipe.steps(o))
  const results: Float32Array[] = []
  while (results.filter(Boolean).length < runs.length) {
    for (const [i, steps] of runs.entries()) {
      if (results[i]) continue
      const next = await steps.next()
      if (next.done) results[i] = next.value.latents!.data
      if (i === 1) await pipe.unet.predict(input)
      if (i === 2) await pipe.unet.trim()
    }
  }
  for (const [i, result] of results.entries())
    t.equal(largestDifference(result, [alone, ...expected][i]), 0, `run ${i}`)
})

t.test('features that one UNet has kept are not those of a later one', async (t) => {
  const latents = {
    data: Float32Array.from({ length: 4 * 256 }, (_, i) => Math.sin(i)),
    shape: [1, 4, 16, 16],
  }
  const deepCache = new DeepCache({ interval: 100, depth: 1 })
  // A UNet often gets the address of the one before it. They differ, so that features of another one would show.
  for (let i = 0; i < 6; i++) {
    const { unet: source } = await openModel(bundledModelPath())
    source!.source.precision = i % 2 === 0 ? 'f32' : 'bf16'
    const unet = await Unet.load(source!, { device: 'cpu' })
    const context = { data: new Float32Array(24 * unet.config.contextWidth).fill(0.1 * i), shape: [1, 24, unet.config.contextWidth] } // prettier-ignore
    const input: UnetInput = { latents, timestep: 500, context }
    const { data: whole } = await unet.predict(input)
    const { data } = await unet.predict({ ...input, deepCache })
    t.equal(largestDifference(data, whole), 0, `UNet ${i}`)
    await unet.dispose()
  }
  await deepCache.dispose()
})

t.test('unet.predict() with acceleration options', async (t) => {
  const { unet } = pipe
  const { contextWidth } = unet.config
  const noise = (seed: number, ...shape: number[]) => ({
    data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * seed)),
    shape,
  })
  const input: UnetInput = {
    latents: noise(1.1, 1, 4, 16, 16),
    timestep: 981,
    context: noise(2.3, 1, 24, contextWidth),
  }
  const later = { ...input, latents: noise(1.7, 1, 4, 16, 16), timestep: 961 }
  const whole = await unet.predict(input)
  for (let depth = 1; depth <= unet.maxDepth; depth++) {
    const deepCache = new DeepCache({ interval: 2, depth })
    for (let i = 0; i < 4; i++) {
      const { data } = await unet.predict({ ...input, deepCache })
      t.equal(largestDifference(data, whole.data), 0, `the same input, depth ${depth}, call ${i}`)
    }
    await unet.predict({ ...input, deepCache })
    await deepCache.dispose()
    const anew = await unet.predict({ ...later, deepCache })
    t.equal(
      largestDifference(anew.data, (await unet.predict(later)).data),
      0,
      'everything is computed after dispose()',
    )
  }
  const merged = await unet.predict({ ...input, tokenMerging: 0.5 })
  t.ok(largestDifference(merged.data, whole.data) > 0)

  const deepCache = new DeepCache({ interval: 3, depth: unet.maxDepth + 1 })
  const bad: [object, { name?: string; message: RegExp }][] = [
    [{ deepCache }, { name: 'RangeError', message: /deepCache\.depth/ }],
    [{ deepCache: {} }, { name: 'TypeError', message: /DeepCache for deepCache/ }],
    [{ deepCache: true }, { name: 'TypeError', message: /DeepCache for deepCache/ }],
    [{ tokenMerging: 0.8 }, { name: 'RangeError', message: /tokenMerging/ }],
    [{ tokenMerging: '0.5' }, { name: 'TypeError', message: /tokenMerging/ }],
    [{ tokenMerge: 0.5 }, { message: /did you mean tokenMerging\?/ }],
  ]
  for (const [change, error] of bad) await t.rejects(unet.predict({ ...input, ...change }), error)
  t.throws(() => new DeepCache({ interval: 0, depth: 1 }), { name: 'RangeError', message: /interval/ })
  t.throws(() => new DeepCache({ interval: 2, depth: 0 }), { name: 'RangeError', message: /depth/ })
  t.throws(() => new DeepCache({ interval: 2, dept: 1 } as never), { message: /did you mean depth\?/ })
  t.throws(() => new DeepCache(undefined as never), { name: 'TypeError' })
})

t.test('memory and parameters', async (t) => {
  const bytes = (options?: object) => pipe.unet.workingBytes(2, 32, 32, 24, options)
  t.ok(bytes({ depth: 2 }) >= bytes() + 2 * 32 * 32 * 64 * 4, 'kept features are counted')
  t.ok(bytes({ tokenMerging: 0.5 }) > 0)
  t.throws(() => bytes({ depth: pipe.unet.maxDepth + 1 }), { message: /depth/ })
  const asked = { width: 512, height: 512, deepCache: true, tokenMerging: 0.5 }
  t.ok(pipe.memoryNeeded(asked).working >= pipe.memoryNeeded({ width: 512, height: 512 }).working)
  t.throws(() => pipe.memoryNeeded({ deepCache: { depth: 1000 } }), { name: 'RangeError' })
  const { parameters } = await pipe.generate({
    ...eight,
    guidanceInterval: [0.1, 0.8],
    deepCache: true,
    tokenMerging: 0.5,
  })
  t.same(parameters[0].extra, {
    'CFG interval': '0.1 to 0.8',
    DeepCache: 'interval 3 depth 1',
    'Token merging ratio': 0.5,
  })
  t.same((await pipe.generate(eight)).parameters[0].extra, {})
})

t.test('the same result after an aborted run', async (t) => {
  const options = { deepCache: true, tokenMerging: 0.5 }
  const expected = await latents(options)
  const controller = new AbortController()
  const run = latents({
    ...options,
    signal: controller.signal,
    onStep: ({ step }) => step === 2 && controller.abort(),
  })
  await t.rejects(run, { name: 'AbortError' })
  t.equal(largestDifference(await latents(options), expected), 0)
})
