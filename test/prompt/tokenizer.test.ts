import { readFileSync } from 'node:fs'
import { createHash } from 'node:crypto'
import { resolve } from 'node:path'
import t from 'tap'
import { DiffusionError } from '../../lib/errors.js'
import { clipVocabulary, CLIP_VOCABULARY_SIZE } from '../../lib/prompt/clip-vocabulary.js'
import { Tokenizer } from '../../lib/prompt/tokenizer.js'
import type { TokenizerDescription } from '../../lib/models/model-description.js'

interface Fixture {
  bos: number
  eos: number
  vocab?: string
  merges?: string
  mergesSha256?: string
  cases: [text: string, ids: number[], decoded: string][]
}

const fixture = (name: string): Fixture =>
  JSON.parse(readFileSync(resolve('test/fixtures/tokenizer', `${name}.json`), 'utf8')) as Fixture

const describe = (name: string): TokenizerDescription | null => {
  const { vocab, merges } = fixture(name)
  return vocab === undefined ? null : { vocab, merges, maxLength: 24, padToken: '<|endoftext|>' }
}

for (const name of ['clip', 'emoji', 'ascii']) {
  t.test(`${name}: ids and decoded text are those of transformers`, async (t) => {
    const { cases, bos, eos } = fixture(name)
    const tokenizer = await Tokenizer.create(describe(name))
    t.equal(tokenizer.bos, bos)
    t.equal(tokenizer.eos, eos)
    t.ok(cases.length > 400)
    const wrong = cases.flatMap(([text, ids, decoded]) => {
      const found = { ids: tokenizer.ids(text), decoded: tokenizer.decode(ids) }
      const equal = String(found.ids) === String(ids) && found.decoded === decoded
      return equal ? [] : [{ text, ids, decoded, found }]
    })
    t.same(wrong, [])
  })
}

t.test('the built-in merges are those of OpenAI', async (t) => {
  const { merges, vocab } = await clipVocabulary()
  t.equal(createHash('sha256').update(merges.join('\n')).digest('hex'), fixture('clip').mergesSha256)
  t.equal(vocab.size, CLIP_VOCABULARY_SIZE)
  t.same(new Set(vocab.values()).size, CLIP_VOCABULARY_SIZE)
})

t.test('a lone surrogate becomes a replacement character', async (t) => {
  const tokenizer = await Tokenizer.create(null)
  t.same(tokenizer.ids('a\ud83d b'), tokenizer.ids('a\ufffd b'))
  t.same(tokenizer.ids('\ude00'), tokenizer.ids('\ufffd'))
})

t.test('a chunk has begin, text, end and padding', async (t) => {
  const tokenizer = await Tokenizer.create(null)
  t.equal(tokenizer.maxLength, 77)
  const chunk = tokenizer.encode('hello world!')
  t.ok(chunk instanceof Int32Array)
  t.same([...chunk], [49406, 3306, 1002, 256, 49407, ...Array<number>(72).fill(49407)])
  t.same([...tokenizer.encode('')], [49406, ...Array<number>(76).fill(49407)])
  const long = tokenizer.encode('hello '.repeat(100))
  t.same([...long], [49406, ...Array<number>(75).fill(3306), 49407])
  t.equal(tokenizer.decode(chunk), 'hello world !')
})

t.test(
  'a description without texts uses the built-in vocabulary with its own padding and length',
  async (t) => {
    const tokenizer = await Tokenizer.create({ maxLength: 77, padToken: '!' })
    t.equal(tokenizer.pad, 0)
    t.same(
      [...tokenizer.encode('hello world!')],
      [49406, 3306, 1002, 256, 49407, ...Array<number>(72).fill(0)],
    )
    const short = await Tokenizer.create({ maxLength: 5, padToken: '<|endoftext|>' })
    t.same([...short.encode('hello')], [49406, 3306, 49407, 49407, 49407])
    const half = { merges: 'a b', maxLength: 77, padToken: '!' }
    await t.rejects(Tokenizer.create(half), { code: 'MODEL_FORMAT', message: /vocab\.json is missing/ })
  },
)

t.test('padding with an ordinary token, as in SD 2', async (t) => {
  const { vocab, merges } = fixture('emoji')
  const tokenizer = await Tokenizer.create({ vocab, merges, maxLength: 10, padToken: '!' })
  const chunk = tokenizer.encode('red!')
  const red = tokenizer.ids('red')
  t.same(
    [...chunk],
    [tokenizer.bos, ...red, tokenizer.ids('!')[0], tokenizer.eos, ...Array<number>(7 - red.length).fill(0)],
  )
  t.equal(tokenizer.pad, 0)
  t.equal(tokenizer.decode([...chunk, ...chunk]), 'red ! red !', 'padding is dropped')
})

t.test('a tokenizer.json', async (t) => {
  const { vocab, merges } = fixture('emoji')
  const pairs = merges!.split('\n').slice(1).filter(Boolean)
  const asStrings = { model: { type: 'BPE', vocab: JSON.parse(vocab!) as object, merges: pairs } }
  const asPairs = {
    model: { type: 'BPE', vocab: JSON.parse(vocab!) as object, merges: pairs.map((p) => p.split(' ')) },
  }
  const plain = await Tokenizer.create(describe('emoji'))
  for (const json of [asStrings, asPairs]) {
    const description = { tokenizerJson: JSON.stringify(json), maxLength: 24, padToken: '<|endoftext|>' }
    const tokenizer = await Tokenizer.create(description)
    t.same(tokenizer.encode('noto red heart'), plain.encode('noto red heart'))
    t.equal(tokenizer.encode('').length, 24)
  }
})

t.test('maxLength of the description, as an argument, and its bounds', async (t) => {
  t.equal((await Tokenizer.create(describe('emoji'))).encode('x').length, 24)
  t.equal((await Tokenizer.create(describe('emoji'), 8)).encode('x').length, 8)
  for (const length of [2, 0, -1, 7.5, NaN]) {
    await t.rejects(Tokenizer.create(describe('emoji'), length), RangeError)
  }
})

t.test('words that a reduced vocabulary cannot represent', async (t) => {
  const ascii = await Tokenizer.create(describe('ascii'))
  t.same(ascii.unknownWords('a red café, 猫 and 猫 cat <|endoftext|>'), ['café,', '猫'])
  t.same(ascii.unknownWords(''), [])
  const full = await Tokenizer.create(null)
  t.same(full.unknownWords('a red café, 猫 and 🦖'), [])
})

t.test('texts that are not a CLIP tokenizer', async (t) => {
  const create = (rest: Partial<TokenizerDescription>): Promise<Tokenizer> =>
    Tokenizer.create({ maxLength: 77, padToken: '<|endoftext|>', ...rest })
  const { vocab, merges } = fixture('emoji')
  for (const [rest, message] of [
    [{ vocab: '{', merges }, /vocab\.json/],
    [{ vocab: '[]', merges }, /vocab\.json/],
    [{ vocab: '{"a":0}', merges: '' }, /<\|startoftext\|>/],
    [{ tokenizerJson: '{"model":{"type":"WordPiece","vocab":{}}}' }, /WordPiece/],
    [{ tokenizerJson: 'null' }, /tokenizer\.json/],
    [{ vocab, merges, padToken: '<pad>' }, /<pad>/],
  ] as [Partial<TokenizerDescription>, RegExp][]) {
    await t.rejects(create(rest), { name: 'DiffusionError', code: 'MODEL_FORMAT', message })
  }
  t.ok(new DiffusionError('IO', '') instanceof Error)
})
