/** Hostile values that no type checker stops: prompts, schedulers and signals. The pipeline stays usable after each. */
import t from 'tap'
import { DiffusionPipeline, type GenerateOptions, type Scheduler, type Tensor } from '../../lib/index.js'
import { fixtures, quick } from '../pipeline/support.js'
import { growthOfEach } from './harness.js'
import { allocatesNothing } from './refusal.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())
const once: GenerateOptions = { ...quick, steps: 1, guidanceScale: 1, width: 32, height: 32 }

t.test('prompts', async (t) => {
  const prompts = {
    'lone surrogates': 'a \ud800 b \udc00',
    'a NUL': 'a\0b',
    emoji: '🍕👩‍👩‍👧'.repeat(50),
    'open brackets': '('.repeat(8192),
    'brackets that close nothing': ')]'.repeat(1000),
    backslashes: '\\'.repeat(2000),
    blanks: ' \n\t\u2028'.repeat(2000),
    'one long word': 'a'.repeat(2000),
    'a weight beyond every number': '(pizza:1e999) (pizza:nan) (pizza:-1)',
  }
  for (const [name, prompt] of Object.entries(prompts)) {
    const { latents } = await pipe.generate({ ...once, prompt, outputType: 'latents' })
    t.ok(latents!.data.every(Number.isFinite), name)
  }
  await t.rejects(pipe.generate({ ...once, prompt: 'a'.repeat(100_000) }), {
    name: 'RangeError',
    message: /^Expected at most 8192 characters for prompt but received 100000$/,
  })
})

t.test('sizes that do not fit into memory', async (t) => {
  const sizes = { width: 100_000, height: 100_000 }
  for (const image of [undefined, `${fixtures}/text-ddim.png`]) {
    const options = { ...quick, ...sizes, image }
    await t.rejects(pipe.generate(options), {
      code: 'OUT_OF_MEMORY',
      message:
        /^1 × 100000×100000 \(batchSize × width×height\) would need [\d.]+ TiB of memory, but this process may use/,
    })
    await allocatesNothing(t, 20, () => pipe.generate(options))
  }
})

t.test('a leak of half a megabyte in each call is found', async (t) => {
  const kept: Buffer[] = []
  const grown = await growthOfEach(20, () => kept.push(Buffer.alloc(600_000, 1)), 0.3e6)
  t.ok(grown > 0.4e6, `${grown} bytes each of ${kept.length}`)
})

t.test('schedulers that break the contract', async (t) => {
  const make = (change: object) =>
    ({
      timesteps: [999],
      initNoiseSigma: 1,
      scaleModelInput: (x: Tensor) => x,
      step: (x: Tensor) => x,
      addNoise: (x: Tensor) => x,
      ...change,
    }) as Scheduler
  const cases: [object, { name?: string; message: RegExp | string }][] = [
    [{ scaleModelInput: () => 5 }, { name: 'TypeError', message: /result of scheduler\.scaleModelInput/ }],
    [{ step: () => undefined }, { name: 'TypeError', message: /result of scheduler\.step/ }],
    [
      { step: () => ({ data: new Float32Array(3), shape: [1, 1, 1, 3] }) },
      { name: 'RangeError', message: /Expected shape \[1, 4, 8, 8\] for the result of scheduler\.step/ },
    ],
    [{ timesteps: { length: 1e9 } }, { name: 'TypeError', message: /scheduler\.timesteps\[0\]/ }],
    [
      {
        step() {
          throw new Error('mine')
        },
      },
      { message: 'mine' },
    ],
  ]
  for (const [change, error] of cases)
    await t.rejects(pipe.generate({ ...once, scheduler: make(change) }), error)
  const image = { data: new Float32Array(3 * 32 * 32), shape: [1, 3, 32, 32] }
  const mask = { data: new Float32Array(32 * 32), shape: [1, 1, 32, 32] }
  for (const more of [{ image }, { image, mask, strength: 0.9 }]) {
    const scheduler = make({
      timesteps: [999, 500],
      addNoise: () => ({ data: new Float32Array(1), shape: [1] }),
    })
    await t.rejects(pipe.generate({ ...once, ...more, scheduler, steps: 2 }), {
      name: 'RangeError',
      message: /Expected shape \[1, 4, 8, 8\] for the result of scheduler\.addNoise/,
    })
  }
  t.equal((await pipe.generate({ ...once, scheduler: make({}) })).images.length, 1)
})

t.test('the part that overflows is named', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const spoil = (tensor: Tensor) => ({ ...tensor, data: tensor.data.map((x, i) => (i === 7 ? Infinity : x)) })
  const parts: [object, string, string][] = [
    [pipe.textEncoder, 'encode', 'The text encoder gave'],
    [pipe.unet, 'predictFrom', 'The UNet gave'],
  ]
  t.notMatch((await pipe.generate(once)).warnings.join(), /not finite/)
  for (const [part, method, culprit] of parts) {
    const target = part as Record<string, (...args: unknown[]) => Promise<Tensor>>
    const original = target[method]
    target[method] = async (...args) => spoil(await original.apply(part, args))
    const { warnings } = await pipe.generate({ ...once, steps: 2 })
    const found = warnings.filter((text) => text.includes('not finite'))
    t.same(
      found.map((text) => text.split(' numbers')[0]),
      [culprit],
    )
    target[method] = original
  }
  const { vae } = pipe
  const decodeImage = vae.decodeImage.bind(vae)
  vae.decodeImage = (latents, options) => decodeImage(spoil(latents), options)
  const decoded = await pipe.generate(once)
  vae.decodeImage = decodeImage
  const found = decoded.warnings.filter((text) => text.includes('not finite'))
  t.match(found, [/^The autoencoder's decoder gave numbers/])
  t.equal(found.length, 1)
  const scheduler = {
    timesteps: [999],
    initNoiseSigma: 1,
    scaleModelInput: (x: Tensor) => x,
    step: spoil,
    addNoise: spoil,
  }
  const { warnings } = await pipe.generate({ ...once, scheduler })
  t.match(warnings.join(), 'The scheduler gave numbers that are not finite')
})

t.test('signals whose listeners cannot be removed', async (t) => {
  const half = { aborted: false, addEventListener() {} }
  await t.rejects(pipe.generate({ ...once, signal: half as never }), { message: /AbortSignal for signal/ })
  const thrower = {
    ...half,
    removeEventListener() {
      throw new Error('mine')
    },
  }
  await t.rejects(pipe.generate({ ...once, signal: thrower as never }), { message: 'mine' })
  t.equal((await pipe.generate(once)).images.length, 1, 'the next run gets its turn')
})

t.test('NaN and detached arrays', async (t) => {
  const nan = (...shape: number[]): Tensor => ({
    data: new Float32Array(shape.reduce((a, b) => a * b)).fill(NaN),
    shape,
  })
  const spoiled: [Partial<GenerateOptions>, string][] = [
    [{ latents: nan(1, 4, 8, 8) }, 'The latents that were given hold'],
    [{ prompt: undefined, promptEmbeds: nan(1, 24, 128) }, 'The promptEmbeds hold'],
    [{ image: nan(1, 3, 32, 32) }, 'The image that was given holds'],
    [{ image: nan(1, 3, 32, 32), mask: nan(1, 1, 32, 32) }, 'The image that was given holds'],
  ]
  for (const [options, culprit] of spoiled) {
    const { warnings } = await pipe.generate({ ...once, ...options, steps: 2 })
    t.match(warnings.join(), `${culprit} numbers that are not finite`, Object.keys(options).join())
  }
  const detached = nan(1, 4, 8, 8)
  structuredClone(detached.data.buffer, { transfer: [detached.data.buffer as ArrayBuffer] })
  await t.rejects(pipe.generate({ ...once, latents: detached }), { name: 'RangeError', message: /latents/ })
})
