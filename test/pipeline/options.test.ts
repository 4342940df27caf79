/** Every option with valid values, wrong types, and values at and beyond its bounds. */
import t from 'tap'
import { Image, schedulerNames, type GenerateOptions, type Tensor } from '../../lib/index.js'
import { checkGenerateOptions, checkLoadOptions, defaults, type ModelFacts } from '../../lib/options/index.js'

const facts: ModelFacts = {
  imageSize: 512,
  factor: 8,
  latentChannels: 4,
  contextWidth: 768,
  maxDepth: 11,
  maxClipSkip: 11,
  controlNets: [
    { residuals: 5, types: 0, masks: true },
    { residuals: 5, types: 0, masks: true },
  ],
  ipAdapters: [
    { path: 'plus.bin', width: 16, hidden: true, encodes: true, face: false, facePicture: false },
    { path: 'face.bin', width: 12, hidden: false, encodes: false, face: true, facePicture: false },
  ],
}
const check = (options: unknown, model = facts) => checkGenerateOptions(options, model)
const tensor = (...shape: number[]): Tensor => ({
  data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
  shape,
})
const image = new Image(8, 8, new Uint8Array(8 * 8 * 3))
const scheduler = {
  timesteps: [999, 500],
  initNoiseSigma: 1,
  scaleModelInput: (x: Tensor) => x,
  step: (x: Tensor) => x,
  addNoise: (x: Tensor) => x,
}

/** For each option: valid values, values of a wrong type, and values out of bounds. */
const table: Record<
  keyof GenerateOptions,
  { valid: unknown[]; type: unknown[]; range: unknown[]; with?: object }
> = {
  prompt: {
    valid: ['', 'a cat', ['a', 'b'], '\ud83d\ude00'],
    type: [undefined, null, 1, {}, ['a', 1], [['a']]],
    range: [[], new Array(257).fill('a'), 'x'.repeat(40000)],
  },
  negativePrompt: { valid: ['', 'blurry', ['blurry']], type: [null, 1, [1], {}], range: [[], ['a', 'b']] },
  loras: {
    valid: [[]],
    type: [
      'a.pt',
      [1],
      [{}],
      [{ path: 'a', x: 1 }],
      [{ path: 'a', blockScales: 1 }],
      [{ path: 'a', scale: '1' }],
    ],
    range: [
      [{ path: 'a', scale: 101 }],
      [{ path: 'a', textEncoderScale: NaN }],
      [{ path: 'a', blockScales: { a: 200 } }],
    ],
  },
  width: {
    valid: [8, 512, 520, 100000, 2 ** 20],
    type: ['512', null, 512n, [512]],
    range: [0, -8, 7, 12, 511, 8.5, NaN, Infinity, 2 ** 20 + 8],
  },
  height: {
    valid: [8, 512, 520, 100000, 2 ** 20],
    type: ['512', null, 512n, {}],
    range: [0, -8, 7, 12, 511, 8.5, NaN, Infinity, 1e9],
  },
  steps: {
    valid: [1, 25, 1000],
    type: ['25', null, 1n, true],
    range: [0, -1, 1001, 1.5, NaN, Infinity, -Infinity],
  },
  guidanceScale: { valid: [0, 1, 7.5, 100], type: ['7', null, 7n], range: [-0.1, 100.1, NaN, Infinity] },
  guidanceRescale: { valid: [0, 0.7, 1], type: ['0', null], range: [-0.1, 1.1, NaN] },
  seed: {
    valid: [0, 42, 2 ** 32, Number.MAX_SAFE_INTEGER, 0n, 2n ** 64n - 1n],
    type: ['1', null, {}, true],
    range: [-1, 1.5, NaN, Infinity, 2 ** 53, -1n, 2n ** 64n],
  },
  rng: { valid: ['torch', 'philox'], type: [1, null, {}], range: ['cuda', ''] },
  batchSize: { valid: [1, 4, 256], type: ['1', null], range: [0, -1, 257, 1.5, NaN] },
  scheduler: {
    valid: [...schedulerNames, scheduler],
    type: [
      1,
      null,
      () => 0,
      {},
      { ...scheduler, step: 1 },
      { ...scheduler, timesteps: 5 },
      { ...scheduler, initNoiseSigma: '1' },
    ],
    range: [
      'ddimm',
      '',
      { ...scheduler, timesteps: [] },
      { ...scheduler, timesteps: [NaN] },
      { ...scheduler, initNoiseSigma: NaN },
    ],
  },
  preset: {
    valid: ['turbo', 'lcm', 'hyper-1step'],
    type: [1, null, []],
    range: ['', 'fast', 'Turbo'],
  },
  schedulerOptions: {
    valid: [{}, { eta: 0.5 }],
    type: [1, null, 'eta', []],
    range: [],
    with: { scheduler: 'ddim' },
  },
  clipSkip: { valid: [0, 1, 11], type: ['1', null], range: [-1, 12, 0.5, NaN] },
  weighting: { valid: [true, false], type: [0, 'yes', null], range: [] },
  image: {
    valid: ['a.png', Buffer.from(''), image, tensor(1, 3, 8, 8)],
    type: [1, null, {}, []],
    range: [tensor(3, 8, 8)],
  },
  strength: { valid: [0, 0.5, 1], type: ['1', null], range: [-0.1, 1.1, NaN], with: { image } },
  mask: {
    valid: ['m.png', image, tensor(1, 1, 8, 8)],
    type: [1, null, {}],
    range: [tensor(8, 8)],
    with: { image },
  },
  controls: {
    valid: [
      [],
      [{ image: 'a.png' }],
      [
        {
          net: 1,
          image: tensor(1, 3, 8, 8),
          scale: -1,
          start: 0.2,
          end: 0.8,
          guess: true,
          weights: 'soft',
          fit: 'fill',
        },
      ],
    ],
    type: [1, null, {}, [1], [{}], [{ image: 1 }], [{ image: 'a.png', guess: 'yes' }]],
    range: [
      [{ image: 'a.png', net: 2 }],
      [{ image: 'a.png', scale: NaN }],
      [{ image: 'a.png', start: 1, end: 0 }],
      [{ image: 'a.png', weights: [1] }],
      [{ image: 'a.png', fit: 'cover' }],
    ],
  },
  imagePrompts: {
    valid: [
      [],
      [{ image: 'a.png' }],
      [
        {
          image: [image, tensor(2, 3, 8, 8)],
          scale: -1,
          mask: tensor(1, 1, 4, 4),
          start: 0.2,
          end: 0.8,
        },
        { adapter: 1, embeds: tensor(1, 12), negativeEmbeds: tensor(1, 12) },
      ],
    ],
    type: [
      1,
      null,
      {},
      [1],
      [{}],
      [{ image: 1 }],
      [{ image: 'a.png', embeds: tensor(1, 2, 16) }],
      [{ adapter: 1, image: 'a.png' }],
      [{ image: 'a.png', mask: 1 }],
    ],
    range: [
      [{ image: 'a.png', adapter: 2 }],
      [{ image: 'a.png', scale: NaN }],
      [{ image: 'a.png', start: 1, end: 0 }],
      [{ image: [] }],
      [{ embeds: tensor(1, 2, 15) }],
      [{ adapter: 1, embeds: tensor(1, 2, 12) }],
    ],
  },
  extraChannels: {
    valid: [tensor(1, 4, 8, 8)],
    type: [1, null, {}, { data: [1], shape: [1] }, { data: new Float32Array(1), shape: 'x' }],
    range: [tensor(1), { data: new Float32Array(3), shape: [1, 1, 2, 2] }],
  },
  promptEmbeds: {
    valid: [tensor(1, 77, 768), tensor(2, 5, 768)],
    type: [1, null, 'a', []],
    range: [tensor(77, 768), tensor(1, 77, 767)],
  },
  negativePromptEmbeds: {
    valid: [tensor(1, 77, 768)],
    type: [1, null],
    range: [tensor(2, 77, 768), tensor(1, 76, 768), tensor(1, 77, 1)],
    with: { promptEmbeds: tensor(1, 77, 768), prompt: undefined },
  },
  latents: {
    valid: [tensor(1, 4, 64, 64)],
    type: [1, null, {}],
    range: [tensor(4, 64, 64), tensor(1, 3, 64, 64)],
  },
  outputType: { valid: ['image', 'latents'], type: [1, null], range: ['pil', ''] },
  decoder: { valid: ['full'], type: [1, null], range: ['big'] },
  vaeTiling: {
    valid: [true, false, { bytes: 0 }, { bytes: 200e6 }],
    type: [1, null, 'yes', { bytes: '64' }, {}, { bytes: 64, gap: 1 }],
    range: [{ bytes: -1 }, { bytes: 64.5 }, { bytes: 2 ** 60 }],
  },
  guidanceInterval: {
    valid: [
      [0, 1],
      [0.2, 0.8],
      [0, 0.001],
    ],
    type: [null, 0.5, 'all', {}, ['0', 1], [0, null], true],
    range: [[], [0.5], [0, 0.5, 1], [0.5, 0.5], [0.8, 0.2], [-0.1, 1], [0, 1.1], [NaN, 1]],
  },
  deepCache: {
    valid: [true, false, {}, { interval: 1 }, { interval: 1000, depth: 11 }, { depth: 1 }],
    type: [null, 3, 'yes', [], { interval: '3' }, { depth: null }, { every: 3 }, { interval: 3n }],
    range: [
      { interval: 0 },
      { interval: 1001 },
      { interval: 2.5 },
      { depth: 0 },
      { depth: 12 },
      { depth: NaN },
    ],
  },
  tokenMerging: {
    valid: [0, 0.5, 0.75],
    type: [null, '0.5', true, [0.5], {}],
    range: [-0.1, 0.76, 1, NaN, Infinity],
  },
  prompt2: { valid: ['', 'a', ['a']], type: [null, 1, [1], {}], range: [[], ['a', 'b']] },
  negativePrompt2: { valid: ['', 'a', ['a']], type: [null, 1, [1], {}], range: [[], ['a', 'b']] },
  originalSize: {
    valid: [{ width: 1, height: 2000 }],
    type: [null, 1, [1, 2], { width: 1 }, { width: '1', height: 1 }, { width: 1, height: 1, depth: 1 }],
    range: [
      { width: 0, height: 1 },
      { width: 1, height: 0.5 },
    ],
  },
  targetSize: {
    valid: [{ width: 1, height: 2000 }],
    type: [null, 1, { height: 1 }],
    range: [{ width: NaN, height: 1 }],
  },
  cropTopLeft: {
    valid: [{}, { top: 0, left: 5 }, { left: 3 }],
    type: [1, 'a', { top: '1' }, { right: 1 }],
    range: [{ top: -1 }, { left: 0.5 }],
  },
  aestheticScore: { valid: [0, 6.5, 10], type: [null, '6'], range: [-1, 10.1, NaN] },
  negativeAestheticScore: { valid: [0, 2.5, 10], type: [null, '6'], range: [-1, 10.1, NaN] },
  imageGuidanceScale: { valid: [0, 1.5, 100], type: [null, '1'], range: [-1, 101, NaN] },
  refinerStart: { valid: [0, 0.8, 1], type: [null, '1'], range: [-0.1, 1.1, NaN] },
  depth: { valid: ['a.png', image, tensor(1, 1, 8, 8)], type: [undefined, null, 1, {}], range: [] },
  noiseLevel: { valid: [0, 20, 350], type: [null, '1'], range: [-1, 1.5, 351, NaN] },
  imageEmbeds: {
    valid: [tensor(1, 20)],
    type: [1, null, 'a'],
    range: [tensor(20), tensor(1, 19), tensor(2, 20)],
  },
  pooledPromptEmbeds: {
    valid: [tensor(1, 20)],
    type: [1, null, 'a'],
    range: [tensor(20), tensor(1, 19), tensor(2, 20)],
    with: { promptEmbeds: tensor(1, 77, 768), prompt: undefined },
  },
  negativePooledPromptEmbeds: {
    valid: [tensor(1, 20)],
    type: [1, null, 'a'],
    range: [tensor(20), tensor(1, 19), tensor(2, 20)],
    with: {
      promptEmbeds: tensor(1, 77, 768),
      pooledPromptEmbeds: tensor(1, 20),
      negativePromptEmbeds: tensor(1, 77, 768),
      prompt: undefined,
    },
  },
  signal: { valid: [new AbortController().signal], type: [1, null, {}, 'x'], range: [] },
  onStep: { valid: [() => 0], type: [1, null, {}, 'x'], range: [] },
}

for (const [key, row] of Object.entries(table)) {
  t.test(key, async (t) => {
    const base = key === 'prompt' || key === 'promptEmbeds' ? {} : { prompt: 'a' }
    const make = (value: unknown) => ({ ...base, ...row.with, [key]: value })
    // Only some models take a pooled output, a depth map or a refiner.
    const model = {
      ...facts,
      ...(/pooled/i.test(key) && { pooledWidth: 20 }),
      ...(key === 'depth' && { extraInput: 'depth' as const }),
      ...(key === 'imageEmbeds' && {
        extraInput: 'embedded-image' as const,
        unclip: { width: 20, encodesImages: true },
      }),
      ...(key === 'refinerStart' && { refines: true }),
    }
    for (const value of row.valid)
      t.doesNotThrow(() => check(make(value), model), `accepts ${describe(value)}`)
    for (const value of row.type) {
      t.throws(
        () => check(make(value), model),
        { name: 'TypeError', message: new RegExp(key) },
        `type: ${describe(value)}`,
      )
    }
    for (const value of row.range) {
      t.throws(
        () => check(make(value), model),
        { name: 'RangeError', message: new RegExp(key) },
        `range: ${describe(value)}`,
      )
    }
  })
}

t.test('error messages', async (t) => {
  const throws = (options: unknown, message: string | RegExp) => t.throws(() => check(options), { message })
  throws(
    { prompt: 'a', steps: 0 },
    'Expected integer between 1 and 1000 for steps but received 0 of type number',
  )
  throws({ prompt: 'a', width: 12 }, 'Expected multiple of 8 for width but received 12 of type number')
  throws({ prompt: 'a', step: 5 }, /^Unknown option step, did you mean steps\?/)
  throws(
    { promptEmbeds: tensor(1, 77, 768), negativePrompt: 'b' },
    /negativePromptEmbeds in place of negativePrompt/,
  )
  throws({ prompt: 'a', negative_prompt: 'b' }, /did you mean negativePrompt\?/)
  throws({ prompt: 'a', xyzzy: 1 }, /^Unknown option xyzzy\. Known options: prompt, negativePrompt/)
  throws({ prompt: 'a', vaeTiling: { byte: 4 } }, /^Unknown option vaeTiling\.byte, did you mean bytes\?/)
  throws(
    { prompt: 'a', deepCache: { intervall: 3 } },
    /^Unknown option deepCache\.intervall, did you mean interval\?/,
  )
  throws({ prompt: 'a', deepcache: true }, /^Unknown option deepcache, did you mean deepCache\?/)
  throws({ prompt: 'a', tokenMerge: 0.5 }, /did you mean tokenMerging\?/)
  throws({ prompt: 'a', guidanceIntervals: [0, 1] }, /did you mean guidanceInterval\?/)
  throws(
    { prompt: 'a', deepCache: { depth: 12 } },
    'Expected integer between 1 and 11 for deepCache.depth but received 12 of type number',
  )
  throws(
    { prompt: 'a', guidanceInterval: [0.8, 0.2] },
    'Expected from below to for guidanceInterval but received [0.8, 0.2]',
  )
  throws(
    { prompt: 'a', rng: 'pilox' },
    /one of torch, philox for rng but received "pilox" of type string, did you mean philox\?/,
  )
  // Long names and values are truncated, and get no spelling hints.
  const long = 'x'.repeat(10_000_000)
  throws({ prompt: 'a', [long]: 1 }, new RegExp(`^Unknown option x{60}…\\. Known options: prompt, .{1,600}$`))
  throws(
    { prompt: 'a', rng: long },
    /^Expected one of torch, philox for rng but received "x{60}…" of type string$/,
  )
  throws({ prompt: 'a', scheduler: long }, /but received "x{60}…" of type string$/)
  throws({ prompt: 'a', '\u001b[2J': 1 }, /^Unknown option \\u001b\[2J\. Known/)
  throws({ prompt: 'a', rng: '\u001b[2J' }, /received "\\u001b\[2J" of type string$/)
  throws({ prompt: 'a', seed: 10n ** 100_000n }, /received a huge integer of type bigint$/)
  throws({ prompt: 'a', steps: Symbol('s'.repeat(1000)) }, /received Symbol\(s{53}… of type symbol$/)
  throws({ prompt: new Array(3) }, /^Expected string for prompt\[0\] but received undefined$/)
  throws({ prompt: 'a', mask: 'm.png' }, /Expected image, as mask was given/)
  throws({ prompt: 'a', strength: 0.5 }, /Expected image, as strength was given/)
  throws({ prompt: 'a', promptEmbeds: tensor(1, 77, 768) }, /either prompt or promptEmbeds/)
  throws({ prompt: new Array(200).fill('a'), batchSize: 2 }, /at most 256 images/)
  throws(undefined, /object for options but received undefined/)
  throws('a cat', /object for options/)
  throws([], /object for options/)
})

t.test('defaults', async (t) => {
  const request = check({ prompt: 'a' })
  t.match(request, {
    width: 512,
    height: 512,
    steps: defaults.steps,
    guidanceScale: defaults.guidanceScale,
    count: 1,
    negativePrompts: [''],
    scheduler: undefined,
    outputType: 'image',
    guidanceInterval: undefined,
    deepCache: undefined,
    tokenMerging: 0,
  })
  t.same(check({ prompt: 'a', deepCache: true }).deepCache, { interval: 3, depth: 1 })
  t.same(check({ prompt: 'a', deepCache: { interval: 5 } }).deepCache, { interval: 5, depth: 1 })
  t.equal(check({ prompt: 'a', deepCache: { interval: 1 } }).deepCache, undefined)
  t.not(check({ prompt: 'a' }).seeds[0], request.seeds[0], 'seeds are random')
  t.same(
    check({ prompt: ['a', 'b'], batchSize: 2, seed: 5 }).seeds,
    [5, 6, 7, 8],
    'each image has the next seed',
  )
  t.same(check({ prompt: 'a', batchSize: 2, seed: 2n ** 64n - 1n }).seeds, [2n ** 64n - 1n, 0n])
  t.equal(check({ prompt: 'a', image }).strength, 0.8)
  t.equal(check({ prompt: 'a', image, mask: image }).strength, 1)
})

t.test('a model without a text encoder', async (t) => {
  const model = { ...facts, maxClipSkip: -1 }
  t.throws(() => check({ prompt: 'a' }, model), {
    message: /promptEmbeds, as this model has no text encoder/,
  })
  t.doesNotThrow(() => check({ promptEmbeds: tensor(1, 77, 768) }, model))
})

t.test('load', async (t) => {
  for (const threads of [1, 256, undefined]) t.doesNotThrow(() => checkLoadOptions({ threads }))
  for (const threads of ['1', null]) t.throws(() => checkLoadOptions({ threads }), { name: 'TypeError' })
  for (const threads of [0, 257, 1.5, NaN])
    t.throws(() => checkLoadOptions({ threads }), { name: 'RangeError' })
  for (const precision of ['auto', 'f32', 'bf16', 'int8'])
    t.doesNotThrow(() => checkLoadOptions({ precision }))
  t.throws(() => checkLoadOptions({ precision: 'fp32' }), {
    name: 'RangeError',
    message: /did you mean f32\?/,
  })
  t.throws(() => checkLoadOptions({ precision: 16 }), { name: 'TypeError' })
  for (const lowMemory of [true, false, undefined])
    t.equal(checkLoadOptions({ lowMemory }).lowMemory, lowMemory)
  for (const lowMemory of ['yes', 1, null])
    t.throws(() => checkLoadOptions({ lowMemory }), { name: 'TypeError' })
  t.throws(() => checkLoadOptions({ thread: 1 }), { message: /did you mean threads\?/ })
  t.throws(() => checkLoadOptions({ signal: 1 }), { name: 'TypeError' })
})

function describe(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'object' && value !== null) return value.constructor?.name ?? 'object'
  const text = String(value)
  return text.length > 40 ? `${text.slice(0, 40)}…` : text
}
