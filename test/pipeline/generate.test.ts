/** The results of generate() and steps(). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  createScheduler,
  DiffusionPipeline,
  type GenerateOptions,
  type Scheduler,
  type StepEvent,
  type Tensor,
} from '../../lib/index.js'
import { fixtures, largestDifference, quick } from './support.js'
import { allocatesNothing } from '../hostile/refusal.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())

t.test('result', async (t) => {
  const result = await pipe.generate({ ...quick, negativePrompt: 'flat ghost', batchSize: 2 })
  t.equal(result.images.length, 2)
  t.same(result.seeds, [1, 2])
  t.match(result.parameters[1], {
    prompt: 'noto pizza',
    negativePrompt: 'flat ghost',
    seed: 2,
    steps: 2,
    model: 'emoji-64',
  })
  t.match(result.images[0], { width: 64, height: 64 })
  t.equal(result.images[0].data.length, 64 * 64 * 3)
  t.ok(result.timings.denoise > 0 && result.timings.total >= result.timings.denoise + result.timings.decode)
  t.same(result.warnings, [])
  t.notOk('latents' in result)
  const file = join(t.testdir(), 'a.png')
  await result.images[0].toFile(file)
  t.match(readFileSync(file).toString('latin1'), /Steps: 2, Sampler: .*Seed: 1, Size: 64x64/)
})

t.test('the same seed gives the same image, another seed another', async (t) => {
  const [a, b, c] = await Promise.all(
    [quick, quick, { ...quick, seed: 2 }].map((options) => pipe.generate(options)),
  )
  t.equal(largestDifference(a.images[0].data, b.images[0].data), 0)
  t.ok(largestDifference(a.images[0].data, c.images[0].data) > 20)
  const random = await pipe.generate({ ...quick, seed: undefined })
  const again = await pipe.generate({ ...quick, seed: random.seeds[0] })
  t.equal(
    largestDifference(random.images[0].data, again.images[0].data),
    0,
    'the reported seed gives the same image',
  )
  const philox = await pipe.generate({ ...quick, rng: 'philox' })
  t.ok(largestDifference(a.images[0].data, philox.images[0].data) > 20)
})

t.test('each image of a batch is that of its seed alone', async (t) => {
  const scheduler = 'ddpm'
  const prompt = ['noto crab', 'flat fire']
  const all = await pipe.generate({ ...quick, scheduler, prompt, batchSize: 2 })
  t.same(all.seeds, [1, 2, 3, 4])
  for (let i = 0; i < 4; i++) {
    const alone = await pipe.generate({ ...quick, scheduler, prompt: prompt[i >> 1], seed: 1 + i })
    t.equal(largestDifference(all.images[i].data, alone.images[0].data), 0, `image ${i}`)
  }
})

t.test('also if memory counts, and the autoencoder works in bands', async (t) => {
  for (const precision of ['bf16', 'int8', 'f32'] as const) {
    await using pipe = await DiffusionPipeline.load(undefined, { lowMemory: true, precision })
    const options = { ...quick, width: 96, height: 64 }
    const all = await pipe.generate({ ...options, batchSize: 5 })
    for (const i of [0, 4]) {
      const alone = await pipe.generate({ ...options, seed: 1 + i })
      t.equal(largestDifference(all.images[i].data, alone.images[0].data), 0, `${precision}, image ${i}`)
    }
  }
})

t.test('step events', async (t) => {
  const events: StepEvent[] = []
  await pipe.generate({ ...quick, steps: 3, onStep: (event) => void events.push(event) })
  t.same(
    events.map(({ step, steps }) => [step, steps]),
    [
      [1, 3],
      [2, 3],
      [3, 3],
    ],
  )
  t.same(events[0].latents.shape, [1, 4, 16, 16])
  t.ok(events[0].timestep > events[2].timestep)
  t.match(events[1].preview, { width: 16, height: 16 })
  t.equal(events[1].preview, events[1].preview, 'computed once')
  await t.rejects(
    pipe.generate({
      ...quick,
      onStep() {
        throw new Error('mine')
      },
    }),
    { message: 'mine' },
  )
  await t.rejects(pipe.generate({ ...quick, onStep: async () => Promise.reject(new Error('late')) }), {
    message: 'late',
  })
})

t.test('steps()', async (t) => {
  const expected = await pipe.generate({ ...quick, steps: 3 })
  const steps = pipe.steps({ ...quick, steps: 3 })
  let count = 0
  let next = await steps.next()
  for (; !next.done; next = await steps.next()) t.equal(next.value.step, ++count)
  t.equal(count, 3)
  t.equal(largestDifference(next.value.images[0].data, expected.images[0].data), 0)
  t.throws(() => pipe.steps({ ...quick, steps: 0 }), { name: 'RangeError' })

  let images = 0
  for await (const { step } of pipe.steps(quick, (result) => (images = result.images.length))) t.ok(step)
  t.equal(images, 1, 'onResult receives the result')

  for await (const { step } of pipe.steps({ ...quick, steps: 100 })) if (step === 2) break
  t.equal((await pipe.generate(quick)).images.length, 1, 'a loop that was left does not block other runs')

  const held = pipe.steps(quick)
  await held.next()
  t.equal((await pipe.generate(quick)).images.length, 1, 'nor does a paused one')
  await held.return(undefined as never)
})

t.test('embeddings', async (t) => {
  const expected = await pipe.generate({ ...quick, negativePrompt: 'flat ghost' })
  const embed = (text: string) => pipe.textEncoder.encode(pipe.tokenizer.encode(text))
  const promptEmbeds = await embed('noto pizza')
  const negativePromptEmbeds = await embed('flat ghost')
  const { steps, guidanceScale, seed } = quick
  const same = await pipe.generate({ promptEmbeds, negativePromptEmbeds, steps, guidanceScale, seed })
  t.equal(largestDifference(same.images[0].data, expected.images[0].data), 0)
  const plain = await pipe.generate({ promptEmbeds, steps, guidanceScale, seed })
  const plainExpected = await pipe.generate(quick)
  t.equal(
    largestDifference(plain.images[0].data, plainExpected.images[0].data),
    0,
    'the default is the empty prompt',
  )
})

t.test('latents in and out', async (t) => {
  const { latents, images } = await pipe.generate({ ...quick, outputType: 'latents' })
  t.same(latents!.shape, [1, 4, 16, 16])
  t.same(images, [])
  const decoded = await pipe.vae.decode({
    data: latents!.data.map((x) => x / pipe.vae.scalingFactor),
    shape: latents!.shape,
  })
  const expected = await pipe.generate(quick)
  const bytes = Uint8ClampedArray.from(decoded.data, (x) => (x / 2 + 0.5) * 255)
  t.equal(bytes[0], expected.images[0].data[0])
  const zeros: Tensor = { data: new Float32Array(4 * 16 * 16), shape: [1, 4, 16, 16] }
  const a = await pipe.generate({ ...quick, latents: zeros, seed: 1 })
  const b = await pipe.generate({ ...quick, latents: zeros, seed: 2 })
  t.equal(largestDifference(a.images[0].data, b.images[0].data), 0, 'given latents replace those of the seed')
  await t.rejects(pipe.generate({ ...quick, width: 128, latents: zeros }), {
    name: 'RangeError',
    message: /latents/,
  })
})

t.test('a custom scheduler', async (t) => {
  const inner = createScheduler('euler', 2, pipe.model.schedule)
  let calls = 0
  const own: Scheduler = {
    timesteps: inner.timesteps,
    initNoiseSigma: inner.initNoiseSigma,
    reset: (options) => inner.reset?.(options),
    scaleModelInput: (latents, timestep) => inner.scaleModelInput(latents, timestep),
    addNoise: (latents, noise, timestep) => inner.addNoise(latents, noise, timestep),
    step(prediction, timestep, latents) {
      calls++
      return inner.step(prediction, timestep, latents)
    },
  }
  const mine = await pipe.generate({ ...quick, scheduler: own })
  const theirs = await pipe.generate({ ...quick, scheduler: 'euler' })
  t.equal(calls, 2)
  t.equal(largestDifference(mine.images[0].data, theirs.images[0].data), 0)
})

t.test('long and weighted prompts', async (t) => {
  const draw = async (options: GenerateOptions) =>
    (await pipe.generate({ ...quick, ...options })).images[0].data
  const encode = (text: string) => pipe.textEncoder.encode(pipe.tokenizer.encode(text))
  /** The picture of these embeddings; the negative prompt is the empty one, as often as there are chunks. */
  const drawEmbeds = (chunks: Tensor[]) => {
    const [{ data, shape }] = chunks
    const joined = new Float32Array(chunks.length * data.length)
    chunks.forEach((chunk, i) => joined.set(chunk.data, i * data.length))
    return draw({
      prompt: undefined,
      promptEmbeds: { data: joined, shape: [1, chunks.length * shape[1], shape[2]] },
    })
  }

  // Each of these words is one token, so that the first text fills a chunk.
  const [first, second] = ['noto pizza '.repeat((pipe.tokenizer.maxLength - 2) / 2), 'flat fire '.repeat(3)]
  const long = await draw({ prompt: first + second })
  t.equal(pipe.tokenizer.ids(first).length, pipe.tokenizer.maxLength - 2)
  t.equal(largestDifference(long, await drawEmbeds([await encode(first), await encode(second)])), 0, 'long')
  t.ok(largestDifference(long, await draw({ prompt: first })) > 20, 'what follows the first chunk counts')

  // The token's vector is multiplied, and the mean of the chunk restored.
  const embeds = await encode('noto pizza')
  const [length, width] = embeds.shape.slice(1)
  const mean = (data: Float32Array) => data.reduce((sum, x) => sum + x, 0) / data.length
  const weighted = { ...embeds, data: embeds.data.slice() }
  for (let i = 2 * width; i < 3 * width; i++) weighted.data[i] *= 1.6
  const factor = mean(embeds.data) / mean(weighted.data)
  weighted.data = weighted.data.map((x) => x * factor)
  t.equal(weighted.data.length, length * width)
  const drawn = await draw({ prompt: 'noto (pizza:1.6)' })
  t.ok(largestDifference(drawn, await drawEmbeds([weighted])) <= 2, 'weighted')
  t.ok(largestDifference(drawn, await draw({ prompt: 'noto pizza' })) > 4, 'and not as without the weight')
})

t.test('image to image', async (t) => {
  const image = join(fixtures, 'text-ddim.png')
  const none = await pipe.generate({ ...quick, image, strength: 0 })
  const little = await pipe.generate({ ...quick, image, strength: 0.5, steps: 4 })
  t.equal(none.images[0].width, 64)
  t.ok(largestDifference(none.images[0].data, little.images[0].data) > 0)
  const wide = await pipe.generate({ ...quick, image, width: 96, height: 64 })
  t.equal(wide.images[0].width, 96, 'resized to a given size')
  await t.rejects(pipe.generate({ ...quick, image: 'no-such.png' }), { code: 'IO' })
  const mask: Tensor = { data: new Float32Array(32 * 32), shape: [1, 1, 32, 32] }
  await t.rejects(pipe.generate({ ...quick, image, mask }), { name: 'RangeError', message: /for mask/ })
  mask.data = new Float32Array(64 * 64)
  mask.shape = [1, 1, 64, 64]
  const kept = await pipe.generate({ ...quick, image, mask, scheduler: 'ddim' })
  const worst = largestDifference(kept.images[0].data, none.images[0].data)
  t.ok(worst <= 60, `a black mask keeps the image, except for the sampling of its latents (${worst})`)
})

t.test('warnings', async (t) => {
  const warnings = async (options: object) => (await pipe.generate({ ...quick, ...options })).warnings.join()
  for (const option of [
    { negativePrompt: 'flat ghost' },
    { guidanceRescale: 0.5 },
    { guidanceInterval: [0, 0.5] },
  ]) {
    const text = `${Object.keys(option)[0]} has no effect without guidance`
    t.match(await warnings({ ...option, guidanceScale: 1 }), text)
    t.notMatch(await warnings(option), text)
  }
  t.match(
    await warnings({ guidanceInterval: [0.6, 0.9] }),
    /none of steps 1 to 2 is in guidanceInterval \[0.6, 0.9\]/,
  )
  const image = { data: new Float32Array(3 * 64 * 64), shape: [1, 3, 64, 64] }
  const late = { image, strength: 0.5, guidanceInterval: [0, 0.5] }
  t.match(await warnings(late), /step 2 is not in guidanceInterval \[0, 0.5\]: there was no guidance/)
  t.match(await warnings({ image, strength: 0.4 }), /strength 0.4 of 2 steps leaves no step/)
  t.match(await warnings({ width: 192, height: 192 }), /far from the 64×64/)
})

t.test('memory', async (t) => {
  const small = pipe.memoryNeeded({ width: 64, height: 64 })
  const large = pipe.memoryNeeded({ width: 512, height: 512, batchSize: 4 })
  t.equal(small.weights, large.weights)
  t.ok(large.working > small.working * 10)
  t.equal(small.total, small.weights + small.working)
  const huge = { ...quick, width: 16384, height: 16384, batchSize: 16 }
  await t.rejects(pipe.generate(huge), {
    code: 'OUT_OF_MEMORY',
    message: /would need \S+ [TG]iB of memory, but this process may use/,
  })
  await allocatesNothing(t, 20, () => pipe.generate(huge))
})

t.test('memory of the largest sizes is computed at once', async (t) => {
  await using lean = await DiffusionPipeline.load(undefined, { lowMemory: true })
  const options = [
    {},
    { vaeTiling: true },
    { vaeTiling: { bytes: 1e9 } },
    { deepCache: true, tokenMerging: 0.5 },
  ]
  for (const [width, height] of [
    [2 ** 20, 2 ** 20],
    [2 ** 20, 64],
    [64, 2 ** 20],
  ]) {
    for (const model of [pipe, lean]) {
      for (const option of options) {
        const began = performance.now()
        const { total } = model.memoryNeeded({ width, height, ...option })
        const spent = performance.now() - began
        t.ok(total > 1e9 && Number.isFinite(total))
        // It took minutes when it grew with the size.
        t.ok(spent < 1000, `${width}×${height} ${JSON.stringify(option)}: ${Math.round(spent)} ms`)
      }
    }
  }
})

t.test('vaeTiling', async (t) => {
  const options = { ...quick, width: 128, height: 128 }
  const whole = await pipe.generate({ ...options, vaeTiling: false })
  for (const vaeTiling of [true, { bytes: 3e6 }]) {
    const banded = await pipe.generate({ ...options, vaeTiling })
    t.ok(largestDifference(whole.images[0].data, banded.images[0].data) <= 2, 'the same image')
    t.match(banded.images[0], { width: 128, height: 128 })
  }
  const size = { width: 512, height: 512 }
  const bytes = (vaeTiling?: boolean | { bytes: number }) => pipe.vae.decodeBytes(128, 128, vaeTiling)
  t.ok(bytes(true) < 0.5 * bytes(false), `${bytes(true)} < half of ${bytes(false)}`)
  t.equal(bytes(), bytes(false), 'the whole image by default')
  const between = Math.round((bytes(true) + bytes(false)) / 2)
  t.ok(bytes({ bytes: between }) <= between, 'at most what is allowed')
  t.equal(bytes({ bytes: 0 }), bytes(true), 'or the minimum')
  t.ok(pipe.memoryNeeded({ ...size, vaeTiling: true }).working <= pipe.memoryNeeded(size).working)
})
