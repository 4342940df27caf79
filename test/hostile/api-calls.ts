/** One valid call of everything that lib/index.ts exports, for the harness to spoil. */
import { join } from 'node:path'
import {
  AutoencoderKL,
  AutoencoderTiny,
  cachedModels,
  ControlNet,
  cpuInfo,
  bundledModelPath,
  bundledVqModelPath,
  createScheduler,
  DeepCache,
  defaultSchedulerName,
  DiffusionPipeline,
  guide,
  Image,
  ImageEncoder,
  imageToTensor,
  listDevices,
  mergeModel,
  openModel,
  preprocessImage,
  pullModel,
  quantizeModel,
  T2iAdapter,
  randomFor,
  Tokenizer,
  VqModel,
  vqLosses,
  type Tensor,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

/** What the calls are made on. */
export interface Subjects {
  pipe: DiffusionPipeline
  vq: VqModel
  tiny: AutoencoderTiny
  vision: ImageEncoder
}

export interface ApiCall {
  /** Fresh valid arguments. */
  args(subjects: Subjects): unknown[]
  call(subjects: Subjects, args: never[]): unknown
}

const tinyPath = () => join(packageRoot(), 'test/fixtures/tiny-vae/wide')

const t2iPath = () => join(packageRoot(), 'test/fixtures/t2i/sd1-light')
const visionPath = () => join(packageRoot(), 'test/fixtures/vision/clip')

export async function loadSubjects(): Promise<Subjects> {
  const [pipe, vq, tiny, vision] = await Promise.all([
    DiffusionPipeline.load(undefined, { tinyVae: undefined }),
    VqModel.load(),
    AutoencoderTiny.load(tinyPath()),
    ImageEncoder.load(visionPath()),
  ])
  return { pipe, vq, tiny, vision }
}

export type Place = [holder: Record<PropertyKey, unknown>, key: PropertyKey]

/** Everything in the arguments that can be replaced: properties of plain objects, and elements of short arrays. */
export function places(holder: object, depth: number): Place[] {
  return Object.entries(holder).flatMap(([key, value]) => {
    const plain =
      typeof value === 'object' &&
      value !== null &&
      (Array.isArray(value) ? value.length <= 8 : Object.getPrototypeOf(value) === Object.prototype)
    const here: Place = [holder as Record<PropertyKey, unknown>, key]
    return plain && depth > 0 ? [here, ...places(value as object, depth - 1)] : [here]
  })
}

const tensor = (...shape: number[]): Tensor => ({
  data: Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)),
  shape,
})
const codes = () => ({ data: new Int32Array(64), shape: [1, 8, 8] })
const size = { width: 32, height: 32 }
const small = { prompt: 'noto pizza', negativePrompt: '', steps: 1, seed: 1, guidanceScale: 2, ...size }
/** Valid calls that would take long end at once. */
const ended = () => AbortSignal.abort(new DOMException('This operation was aborted', 'AbortError'))
const open = () => new AbortController().signal

const generateArgs: Record<string, (subjects: Subjects) => object> = {
  text: () => ({
    ...small,
    batchSize: 1,
    scheduler: 'ddim',
    schedulerOptions: { eta: 0.5, spacing: 'leading' },
    rng: 'torch',
    clipSkip: 0,
    weighting: true,
    outputType: 'image',
    decoder: 'full',
    vaeTiling: { bytes: 1e6 },
    guidanceInterval: [0, 1],
    deepCache: { interval: 2, depth: 1 },
    tokenMerging: 0.5,
    guidanceRescale: 0.5,
    signal: open(),
    onStep: () => undefined,
    preset: undefined,
  }),
  prompts: () => ({ ...small, prompt: ['noto pizza', 'flat fire'], negativePrompt: ['', 'ghost'] }),
  embeddings: ({ pipe }) => {
    const embeds = () => tensor(1, pipe.tokenizer.maxLength, pipe.unet.config.contextWidth)
    return {
      promptEmbeds: embeds(),
      negativePromptEmbeds: embeds(),
      latents: tensor(1, 4, 8, 8),
      steps: 1,
      ...size,
    }
  },
  image: () => ({ ...small, image: tensor(1, 3, 32, 32), mask: tensor(1, 1, 32, 32), strength: 1, steps: 2 }),
  'an Image': () => ({
    ...small,
    image: new Image(32, 32, new Uint8Array(3 * 32 * 32)),
    mask: new Image(16, 32, new Uint8Array(3 * 16 * 32)),
  }),
  scheduler: () => ({
    ...small,
    scheduler: {
      timesteps: [999, 500],
      sigmas: [1, 0.5],
      order: 1,
      initNoiseSigma: 1,
      reset: () => undefined,
      scaleModelInput: (x: Tensor) => x,
      step: (x: Tensor) => x,
      addNoise: (x: Tensor) => x,
      denoised: undefined,
    },
  }),
}

/** Options that the bundled model has no use for: it refuses them after they have been read. */
const otherOptions = {
  preset: 'lcm',
  loras: ['a.safetensors', { path: 'b.safetensors', scale: 1, textEncoderScale: 1, blockScales: { mid: 0.5 } }],
  depth: tensor(1, 1, 4, 4),
  imageEmbeds: tensor(1, 4),
  extraChannels: tensor(1, 5, 4, 4),
  prompt2: ['a'],
  negativePrompt2: 'b',
  originalSize: { width: 64, height: 64 },
  cropTopLeft: { top: 0, left: 0 },
  targetSize: { width: 64, height: 64 },
  aestheticScore: 6,
  negativeAestheticScore: 2,
  refinerStart: 1,
  pooledPromptEmbeds: tensor(1, 8),
  negativePooledPromptEmbeds: tensor(1, 8),
  imageGuidanceScale: 1.5,
  noiseLevel: 20,
  controls: [{ net: 0, image: tensor(1, 3, 32, 32), mask: tensor(1, 1, 32, 32), scale: 1, start: 0, end: 1, guess: true, weights: [1], fit: 'crop', type: 'canny' }],
  imagePrompts: [
    { adapter: 0, image: [tensor(1, 3, 8, 8)], scale: 1, mask: tensor(1, 1, 4, 4), start: 0, end: 1 },
    { adapter: 0, embeds: tensor(1, 8), negativeEmbeds: tensor(1, 8) },
  ],
} // prettier-ignore
for (const [key, value] of Object.entries(otherOptions))
  generateArgs[key] = () => ({ ...small, [key]: structuredClone(value) })

const scheduler = ({ pipe }: Subjects) => createScheduler('euler-a', 4, pipe.model.schedule)

/** A call of a method or function with these arguments. */
const of = (args: ApiCall['args'], call: (subjects: Subjects, ...args: never[]) => unknown): ApiCall => ({
  args,
  call: (subjects, list) => call(subjects, ...list),
})

const pixels = ({ vision: { config } }: Subjects) => tensor(1, 3, config.imageSize, config.imageSize)
const image = () => new Image(4, 4, new Uint8Array(48), { prompt: 'a', steps: 1 })

export const apiCalls: Record<string, ApiCall> = {
  ...Object.fromEntries(
    Object.entries(generateArgs).flatMap(([name, make]) => [
      [
        `generate ${name}`,
        of(
          (s) => [make(s)],
          (s, o) => s.pipe.generate(o),
        ),
      ],
      [
        `steps ${name}`,
        of(
          (s) => [make(s), () => undefined],
          (s, o, f) => s.pipe.steps(o, f).next(),
        ),
      ],
    ]),
  ),
  memoryNeeded: of(
    () => [{ ...size, batchSize: 1, guidanceScale: 2, decoder: 'full', vaeTiling: true, tokenMerging: 0.5 }],
    (s, o) => s.pipe.memoryNeeded(o),
  ),
  'DiffusionPipeline.load': of(
    () => [
      bundledModelPath(),
      {
        threads: 2,
        precision: 'f32',
        variant: 'fp16',
        predictionType: 'epsilon',
        rescaleBetasZeroSnr: false,
        timestepSpacing: 'leading',
        unet: bundledModelPath(),
        vae: bundledModelPath(),
        textEncoders: [bundledModelPath()],
        imageEncoder: 'a.safetensors',
        refiner: bundledModelPath(),
        tinyVae: tinyPath(),
        lowMemory: true,
        device: 'cpu',
        loras: ['a.safetensors', { path: 'b.safetensors', scale: 1, blockScales: { mid: 1 } }],
        loraFolder: '.',
        embeddings: ['a.safetensors', { path: 'b.safetensors', token: 'b' }],
        controlNets: ['a.safetensors'],
        ipAdapters: ['a.safetensors', { path: 'b.safetensors', imageEncoder: 'c' }],
        kernels: 'portable',
        signal: ended(),
      },
    ],
    (_, path, options) => DiffusionPipeline.load(path, options),
  ),
  'AutoencoderKL.load': of(
    () => [bundledModelPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => AutoencoderKL.load(path, options),
  ),
  'AutoencoderTiny.load': of(
    () => [tinyPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => AutoencoderTiny.load(path, options),
  ),
  'VqModel.load': of(
    () => [bundledVqModelPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => VqModel.load(path, options),
  ),
  'ControlNet.load': of(
    () => [bundledModelPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => ControlNet.load(path, options),
  ),
  'T2iAdapter.load': of(
    () => [t2iPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => T2iAdapter.load(path, options),
  ),
  preprocessImage: of(
    () => [
      tensor(1, 3, 8, 8),
      { type: 'canny', low: 10, high: 20 },
      { size: { width: 16, height: 16 }, fit: 'fill', signal: open() },
    ],
    (_, input, preprocessor, options) => preprocessImage(input, preprocessor, options),
  ),
  'preprocessImage, colours': of(
    () => [
      image(),
      {
        type: 'semantic',
        palette: [
          [0, 0, 0],
          [255, 255, 255],
        ],
        labels: true,
      },
      {},
    ],
    (_, input, preprocessor, options) => preprocessImage(input, preprocessor, options),
  ),
  'ImageEncoder.load': of(
    () => [visionPath(), { precision: 'f32', signal: ended() }],
    (_, path, options) => ImageEncoder.load(path, options),
  ),
  'imageEncoder.preprocess': of(
    () => [[tensor(1, 3, 8, 8), image()], { signal: open() }],
    (s, images, options) => s.vision.preprocess(images, options),
  ),
  'imageEncoder.encode': of(
    (s) => [pixels(s), { signal: open() }],
    (s, x, options) => s.vision.encode(x, options),
  ),
  'imageEncoder.hiddenStates': of(
    (s) => [pixels(s), { skip: 1, signal: open() }],
    (s, x, options) => s.vision.hiddenStates(x, options),
  ),
  'imageEncoder.workingBytes': of(
    () => [1],
    (s, n) => s.vision.workingBytes(n),
  ),
  cpuInfo: of(
    () => [],
    () => cpuInfo(),
  ),
  listDevices: of(
    () => [],
    () => listDevices(),
  ),
  cachedModels: of(
    () => [],
    () => cachedModels(),
  ),
  pullModel: of(
    () => ['hf:owner/name', { variant: 'fp16', signal: ended(), onProgress: () => undefined }],
    (_, reference, options) => pullModel(reference, options),
  ),
  mergeModel: of(
    () => [
      bundledModelPath(),
      'merged.gguf',
      { loras: ['a.safetensors'], type: 'q8_0', rules: '', signal: ended(), onProgress: () => undefined },
    ],
    (_, input, output, options) => mergeModel(input, output, options),
  ),
  openModel: of(
    () => [bundledVqModelPath()],
    (_, path) => openModel(path),
  ),
  quantizeModel: of(
    () => [
      bundledVqModelPath(),
      'out.gguf',
      { type: 'q8_0', rules: '', signal: ended(), onProgress: () => undefined },
    ],
    (_, input, output, options) => quantizeModel(input, output, options),
  ),
  'unet.predict': of(
    ({ pipe }) => [
      {
        latents: tensor(1, 4, 8, 8),
        timestep: [500],
        context: tensor(1, pipe.tokenizer.maxLength, pipe.unet.config.contextWidth),
        tokenMerging: 0.5,
        deepCache: new DeepCache({ interval: 2, depth: 1 }),
      },
      { signal: open() },
    ],
    (s, input, options) => s.pipe.unet.predict(input, options),
  ),
  'unet.prepare': of(
    () => [[1, 2], { signal: open() }],
    (s, t, o) => s.pipe.unet.prepare(t, o),
  ),
  'unet.workingBytes': of(
    () => [1, 8, 8, 24, { tokenMerging: 0.5, depth: 1 }],
    (s, n, h, w, l, o) => s.pipe.unet.workingBytes(n, h, w, l, o),
  ),
  'textEncoder.encode': of(
    ({ pipe }) => [pipe.tokenizer.encode('a'), { clipSkip: 0, signal: open() }],
    (s, tokens, o) => s.pipe.textEncoder.encode(tokens, o),
  ),
  'vae.encode': of(
    () => [tensor(1, 3, 32, 32), { tiling: true, signal: open() }],
    (s, x, o) => s.pipe.vae.encode(x, o),
  ),
  'vae.decode': of(
    () => [tensor(1, 4, 8, 8), { tiling: { bytes: 1e6 } }],
    (s, x, o) => s.pipe.vae.decode(x, o),
  ),
  'vae.decodeBytes': of(
    () => [8, 8, true],
    (s, h, w, o) => s.pipe.vae.decodeBytes(h, w, o),
  ),
  'vae.encodeBytes': of(
    () => [8, 8, { bytes: 5 }],
    (s, h, w, o) => s.pipe.vae.encodeBytes(h, w, o),
  ),
  'tiny.encode': of(
    () => [tensor(1, 3, 32, 32), {}],
    (s, x, o) => s.tiny.encode(x, o),
  ),
  'tiny.decode': of(
    (s) => [tensor(1, s.tiny.config.latentChannels, 8, 8), {}],
    (s, x, o) => s.tiny.decode(x, o),
  ),
  'vq.encode': of(
    () => [tensor(1, 3, 32, 32), { signal: open() }],
    (s, x, o) => s.vq.encode(x, o),
  ),
  'vq.quantize': of(
    () => [tensor(1, 4, 8, 8), { signal: open() }],
    (s, x, o) => s.vq.quantize(x, o),
  ),
  'vq.lookup': of(
    () => [codes(), { signal: open() }],
    (s, x, o) => s.vq.lookup(x, o),
  ),
  'vq.decode': of(
    () => [codes(), { tiling: true }],
    (s, x, o) => s.vq.decode(x, o),
  ),
  vqLosses: of(
    () => [
      {
        image: tensor(1, 3, 4, 4),
        reconstruction: tensor(1, 3, 4, 4),
        encoded: tensor(1, 4, 2, 2),
        quantized: tensor(1, 4, 2, 2),
        commitment: 0.25,
      },
    ],
    (_, terms) => vqLosses(terms),
  ),
  DeepCache: of(
    () => [{ interval: 3, depth: 1 }],
    (_, o) => new DeepCache(o).dispose(),
  ),
  guide: of(
    () => [tensor(2, 4, 2, 2), 7, 0.5],
    (_, x, s, r) => guide(x, s, r),
  ),
  createScheduler: of(
    ({ pipe }) => ['dpm++-2m', 10, { ...pipe.model.schedule }, { order: 2, spacing: 'leading' }],
    (_, name, steps, schedule, o) => createScheduler(name, steps, schedule, o),
  ),
  defaultSchedulerName: of(
    ({ pipe }) => [{ ...pipe.model.schedule }],
    (_, s) => defaultSchedulerName(s),
  ),
  'scheduler.reset': of(
    () => [{ random: randomFor('torch', 1), begin: 0 }],
    (s, o) => scheduler(s).reset(o),
  ),
  'scheduler.scaleModelInput': of(
    () => [tensor(1, 4, 2, 2), 999],
    (s, x, t) => scheduler(s).scaleModelInput(x, t),
  ),
  'scheduler.step': of(
    () => [tensor(1, 4, 2, 2), 999, tensor(1, 4, 2, 2)],
    (s, p, t, x) => {
      const made = scheduler(s)
      made.reset({ random: randomFor('torch', 1), begin: 0 })
      return made.step(p, t, x)
    },
  ),
  'scheduler.addNoise': of(
    () => [tensor(1, 4, 2, 2), tensor(1, 4, 2, 2), 999],
    (s, x, n, t) => scheduler(s).addNoise(x, n, t),
  ),
  randomFor: of(
    () => ['philox', 5n],
    (_, rng, seed) => randomFor(rng, seed),
  ),
  'random.normal': of(
    () => [[1, 4, 8, 8]],
    (_, shape) => randomFor('torch', 1).normal(shape),
  ),
  'Tokenizer.create': of(
    () => [{ maxLength: 77, padToken: '!' }, 77],
    (_, description, length) => Tokenizer.create(description, length),
  ),
  'tokenizer.encode': of(
    () => ['a cat'],
    (s, text) => s.pipe.tokenizer.encode(text),
  ),
  'tokenizer.ids': of(
    () => ['a cat'],
    (s, text) => s.pipe.tokenizer.ids(text),
  ),
  'tokenizer.unknownWords': of(
    () => ['a cat'],
    (s, text) => s.pipe.tokenizer.unknownWords(text),
  ),
  'tokenizer.chunk': of(
    () => [[1, 2]],
    (s, ids) => s.pipe.tokenizer.chunk(ids),
  ),
  'tokenizer.decode': of(
    () => [[1, 2]],
    (s, ids) => s.pipe.tokenizer.decode(ids),
  ),
  Image: of(
    () => [2, 2, new Uint8Array(12), { prompt: 'a' }],
    (_, w, h, d, m) => new Image(w, h, d, m),
  ),
  'Image.fromTensor': of(
    () => [tensor(2, 3, 4, 4), 1],
    (_, x, i) => Image.fromTensor(x, i),
  ),
  toBuffer: of(
    () => ['webp', { quality: 90, lossless: true, compressionLevel: 3, metadata: true }],
    (_, format, o) => image().toBuffer(format, o),
  ),
  toFile: of(
    () => ['out.png', { quality: 90, format: 'jpeg', metadata: false, signal: open() }],
    (_, path, o) => image().toFile(path, o),
  ),
  imageToTensor: of(
    () => [image(), { width: 8, height: 8 }, { signal: open() }],
    (_, x, s, o) => imageToTensor(x, s, o),
  ),
}
