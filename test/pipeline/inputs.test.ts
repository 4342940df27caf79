/** Inputs are copied: a call that waits in the queue does not see later changes of its arrays. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  AutoencoderTiny,
  DiffusionPipeline,
  Image,
  imageToTensor,
  VqModel,
  type GenerateOptions,
  type Tensor,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { fixtures, largestDifference, quick } from './support.js'

const pipe = await DiffusionPipeline.load()
const vq = await VqModel.load()
const tiny = await AutoencoderTiny.load(join(packageRoot(), 'test/fixtures/tiny-vae/wide'))
t.teardown(() => Promise.all([pipe.dispose(), vq.dispose(), tiny.dispose()]))

type Arrays = Float32Array | Int32Array | Uint8Array

const wave = (...shape: number[]): Tensor => ({
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => Math.sin(i)),
  shape,
})

/** Overwrites all arrays of a value. */
function spoil(value: unknown): void {
  if (ArrayBuffer.isView(value)) (value as Arrays).fill(0)
  else if (Array.isArray(value)) value.fill(1)
  else if (typeof value === 'object' && value !== null) Object.values(value).forEach(spoil)
}

t.test('components', async (t) => {
  const { maxLength } = pipe.tokenizer
  const timestep = () => Float32Array.of(500)
  const calls: Record<string, [input: () => unknown, call: (input: never) => Promise<unknown>]> = {
    'unet.predict': [
      () => ({ latents: wave(1, 4, 16, 16), timestep: timestep(), context: wave(1, maxLength, 128) }),
      (input) => pipe.unet.predict(input),
    ],
    'textEncoder.encode': [
      () => pipe.tokenizer.encode('noto pizza'),
      (tokens) => pipe.textEncoder.encode(tokens),
    ],
    'vae.encode': [() => wave(2, 3, 64, 64), (image) => pipe.vae.encode(image).then(({ mean }) => mean)],
    'vae.decode': [() => wave(2, 4, 16, 16), (latents) => pipe.vae.decode(latents)],
    'vae.decode in bands': [
      () => wave(1, 4, 16, 16),
      (latents) => pipe.vae.decode(latents, { tiling: true }),
    ],
    'tiny.encode': [() => wave(2, 3, 32, 32), (image) => tiny.encode(image)],
    'tiny.decode': [() => wave(2, tiny.config.latentChannels, 8, 8), (latents) => tiny.decode(latents)],
    'vq.encode': [() => wave(1, 3, 64, 64), (image) => vq.encode(image).then(({ indices }) => indices)],
    'vq.quantize': [() => wave(1, 4, 8, 8), (latents) => vq.quantize(latents)],
    'vq.lookup': [
      () => ({ data: Int32Array.from({ length: 64 }, (_, i) => i), shape: [1, 8, 8] }),
      (codes) => vq.lookup(codes),
    ],
    'vq.decode of codes': [
      () => ({ data: Int32Array.from({ length: 64 }, (_, i) => i), shape: [1, 8, 8] }),
      (codes) => vq.decode(codes),
    ],
    'vq.decode of latents': [() => wave(1, 4, 8, 8), (latents) => vq.decode(latents)],
    imageToTensor: [() => readFileSync(join(fixtures, 'text-ddim.png')), (bytes) => imageToTensor(bytes)],
    'imageToTensor of an image': [
      () =>
        new Image(
          2,
          2,
          Uint8Array.from({ length: 12 }, (_, i) => 20 * i),
        ),
      (image) => imageToTensor(image),
    ],
  }
  for (const [name, [make, call]] of Object.entries(calls)) {
    const expected = (await call(make() as never)) as Tensor
    // The first call is running, the second waits for it.
    const inputs = [make(), make()]
    const running = inputs.map((input) => call(input as never))
    inputs.forEach(spoil)
    for (const [i, found] of (await Promise.all(running)).entries()) {
      const { data, shape } = found as Tensor
      t.same(shape, expected.shape, `${name}: shape`)
      t.equal(largestDifference(data, expected.data), 0, `${name}, call ${i}`)
    }
  }
})

t.test('generate() and steps()', async (t) => {
  const base = { ...quick, width: 64, height: 64 }
  const png = () => readFileSync(join(fixtures, 'text-ddim.png'))
  const { maxLength } = pipe.tokenizer
  const cases: Record<string, () => GenerateOptions> = {
    prompts: () => ({ ...base, prompt: ['noto pizza', 'blue cat'] }),
    latents: () => ({ ...base, latents: wave(1, 4, 16, 16) }),
    embeddings: () => ({
      ...base,
      prompt: undefined,
      promptEmbeds: wave(1, maxLength, 128),
      negativePromptEmbeds: wave(1, maxLength, 128),
    }),
    'an encoded image': () => ({ ...base, image: png() }),
    'an image and a mask': () => ({ ...base, image: wave(1, 3, 64, 64), mask: wave(1, 1, 64, 64) }),
    'an Image': () => ({ ...base, image: new Image(64, 64, new Uint8Array(3 * 64 * 64).fill(90)) }),
    options: () => ({ ...base, scheduler: 'ddim', schedulerOptions: { eta: 1 }, guidanceInterval: [0, 0.5] }),
  }
  for (const [name, make] of Object.entries(cases)) {
    const expected = await pipe.generate(make())
    const waiting = pipe.generate(base)
    const options = make()
    const first = pipe.generate(options)
    const steps = pipe.steps(options)
    for (const value of [
      options.latents,
      options.promptEmbeds,
      options.negativePromptEmbeds,
      options.image,
      options.mask,
    ])
      spoil(value)
    if (Array.isArray(options.prompt)) options.prompt.fill('ghost')
    if (options.schedulerOptions) options.schedulerOptions.eta = 0
    if (options.guidanceInterval) options.guidanceInterval.fill(0)
    let next = await steps.next()
    while (!next.done) next = await steps.next()
    await waiting
    for (const { images } of [await first, next.value])
      for (const [i, image] of images.entries())
        t.equal(largestDifference(image.data, expected.images[i].data), 0, name)
  }
})
