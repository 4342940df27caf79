/** Prompt encoding: one or several text encoders, guidance, prompt embeddings. */
import t from 'tap'
import { TimeSlice } from '../../lib/time-slice.js'
import { DiffusionPipeline, type Tensor } from '../../lib/index.js'
import { checkGenerateOptions, type ModelFacts } from '../../lib/options/index.js'
import { conditioningRows } from '../../lib/pipeline/conditioning.js'
import {
  conditioningFromEmbeds,
  encodeEmptyPrompt,
  encodePrompts,
  tokenizePrompts,
} from '../../lib/pipeline/prompt.js'
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
    const encoders = new Array(count).fill(pipe.textEncoder)
    const slice = new TimeSlice()
    const tokens = await tokenizePrompts(new Array(count).fill(pipe.tokenizer), asked, slice)
    return (await encodePrompts(encoders, tokens, asked, {}, slice)).context
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
  const empty = (length: number, encoders = pipe.textEncoders) =>
    encodeEmptyPrompt(encoders, pipe.tokenizers, length, {})
  const one = (await empty(maxLength))!
  t.same(one.shape, [1, maxLength, 128])
  const three = (await empty(3 * maxLength))!
  t.same(three.shape, [1, 3 * maxLength, 128])
  t.equal(largestDifference(three.data.subarray(2 * one.data.length), one.data), 0)
  t.equal(await empty(maxLength + 1), undefined, 'not a multiple of a chunk')
  t.equal(await empty(maxLength, []), undefined, 'no text encoder')

  const promptEmbeds = { data: new Float32Array(maxLength * 128).fill(1), shape: [1, maxLength, 128] }
  const context = async (options: object) =>
    (
      await conditioningFromEmbeds(request({ prompt: undefined, promptEmbeds, ...options }), () =>
        empty(maxLength),
      )
    ).context
  const guided = await context({ batchSize: 2 })
  t.same(guided.shape, [4, maxLength, 128])
  t.equal(largestDifference(guided.data.subarray(0, one.data.length), one.data), 0, 'the empty prompt')
  t.same((await context({ guidanceScale: 1 })).shape, [1, maxLength, 128])
})

t.test('concatWidths()', async (t) => {
  const a = { data: Float32Array.of(1, 2, 3, 4), shape: [1, 2, 2] }
  const b = { data: Float32Array.of(5, 6), shape: [1, 2, 1] }
  t.same(concatWidths([a, b]), { data: Float32Array.of(1, 2, 5, 3, 4, 6), shape: [1, 2, 3] })
  t.equal(concatWidths([a]), a)
})
