/** Prompt encoding: one or several text encoders, guidance, prompt embeddings. */
import t from 'tap'
import { TimeSlice } from '../../lib/time-slice.js'
import { DiffusionPipeline, type Tensor } from '../../lib/index.js'
import { checkGenerateOptions, type ModelFacts } from '../../lib/options/index.js'
import { conditioningRows } from '../../lib/pipeline/conditioning.js'
import { conditioningFromEmbeds, encodePrompts, tokenizePrompts } from '../../lib/pipeline/prompt.js'
import { concatWidths } from '../../lib/pipeline/tensors.js'
import { largestDifference } from './support.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())
const facts: ModelFacts = {
  imageSize: 64,
  factor: 4,
  latentChannels: 4,
  contextWidth: 128,
  maxDepth: 5,
  maxClipSkip: 2,
}
const request = (options: object) =>
  checkGenerateOptions({ prompt: 'noto pizza', guidanceScale: 3, ...options }, facts)

/** The columns of encoder `index` of `count`. */
function columns({ data, shape }: Tensor, index: number, count: number): Float32Array {
  const [n, length, width] = shape
  const own = width / count
  const out: number[] = []
  for (let row = 0; row < n * length; row++)
    out.push(...data.subarray(row * width + index * own, row * width + (index + 1) * own))
  return Float32Array.from(out)
}

t.test('a pipeline has lists of text encoders and tokenizers', async (t) => {
  t.equal(pipe.textEncoders.length, 1)
  t.equal(pipe.tokenizers.length, 1)
  t.equal(pipe.textEncoder, pipe.textEncoders[0])
  t.equal(pipe.tokenizer, pipe.tokenizers[0])
  t.equal(pipe.model.components.textEncoders.length, 1)
})

t.test('contexts of several text encoders are concatenated along their width', async (t) => {
  const asked = request({
    prompt: ['noto pizza', 'blue cat'],
    negativePrompt: 'flat ghost',
    batchSize: 2,
    clipSkip: 1,
  })
  const encode = async (count: number) => {
    const parts = {
      textEncoders: new Array(count).fill(pipe.textEncoder),
      tokenizers: new Array(count).fill(pipe.tokenizer),
      unet: pipe.unet,
    }
    const slice = new TimeSlice()
    const tokens = await tokenizePrompts(parts.tokenizers, asked, slice)
    return (await encodePrompts(parts, tokens, asked, {}, slice)).context
  }
  const one = await encode(1)
  t.same(one.shape, [8, pipe.tokenizer.maxLength, 128], 'unconditional half first, each prompt twice')
  const two = await encode(2)
  t.same(two.shape, [8, pipe.tokenizer.maxLength, 256])
  for (const i of [0, 1]) t.equal(largestDifference(columns(two, i, 2), one.data), 0, `encoder ${i}`)

  const conditional = conditioningRows({ context: one }, 4, 8).context
  t.same(conditional.shape, [4, pipe.tokenizer.maxLength, 128])
  t.equal(conditional.data.buffer, one.data.buffer, 'shares memory')
})

t.test('embeddings without negative ones', async (t) => {
  const { maxLength } = pipe.tokenizer
  const one = await pipe.textEncoder.encode(pipe.tokenizer.encode(''))
  const context = async (length: number, options: object, change: object = {}) => {
    const promptEmbeds = { data: new Float32Array(length * 128).fill(1), shape: [1, length, 128] }
    const parts = {
      textEncoders: pipe.textEncoders,
      tokenizers: pipe.tokenizers,
      unet: pipe.unet,
      ...change,
    }
    const asked = request({ prompt: undefined, promptEmbeds, ...options })
    return (await conditioningFromEmbeds(parts, asked, {}, new TimeSlice())).context
  }
  const guided = await context(maxLength, { batchSize: 2 })
  t.same(guided.shape, [4, maxLength, 128])
  const size = one.data.length
  t.equal(largestDifference(guided.data.subarray(0, size), one.data), 0, 'the empty prompt')
  t.ok(
    guided.data.subarray(2 * size).every((x) => x === 1),
    'then what was given',
  )
  t.same((await context(maxLength, { guidanceScale: 1 })).shape, [1, maxLength, 128])

  const three = await context(3 * maxLength, {})
  t.equal(largestDifference(three.data.subarray(2 * size, 3 * size), one.data), 0, 'as often as it fits')
  const zero = async (length: number, change: object) =>
    (await context(length, {}, change)).data.subarray(0, length * 128).every((x) => x === 0)
  t.ok(await zero(maxLength + 1, {}), 'zeros: not a multiple of a chunk')
  t.ok(await zero(maxLength, { textEncoders: [] }), 'zeros: no text encoder')
  t.ok(await zero(maxLength, { zeroesEmptyNegative: true }), 'zeros: as the model has it')
})

t.test('concatWidths()', async (t) => {
  const a = { data: Float32Array.of(1, 2, 3, 4), shape: [1, 2, 2] }
  const b = { data: Float32Array.of(5, 6), shape: [1, 2, 1] }
  t.same(concatWidths([a, b]), { data: Float32Array.of(1, 2, 5, 3, 4, 6), shape: [1, 2, 3] })
  t.equal(concatWidths([a]), a)
})
