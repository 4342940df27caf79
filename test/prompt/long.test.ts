/** Long texts: they are tokenized piece by piece, with the ids of the whole text. */
import { setTimeout } from 'node:timers/promises'
import { Tokenizer as Bpe } from '@huggingface/tokenizers'
import t from 'tap'
import { clipVocabulary, type Vocabulary } from '../../lib/prompt/clip-vocabulary.js'
import { chunkPrompt } from '../../lib/prompt/prompt.js'
import { Tokenizer } from '../../lib/prompt/tokenizer.js'
import { clipTokenizerJson } from '../../lib/prompt/tokenizer-json.js'
import { TimeSlice } from '../../lib/time-slice.js'
import { DelayWatch, Random } from '../hostile/harness.js'

const watch = new DelayWatch()
watch.start()
const clip = await Tokenizer.create(null)
await setTimeout(5)
watch.pause()

/** The tokenizer of `@huggingface/tokenizers` as its own constructor fills it. */
function wholeJson({ vocab, merges }: Vocabulary): object {
  const json = clipTokenizerJson({ vocab, merges }) as { model: object }
  return { ...json, model: { ...json.model, vocab: Object.fromEntries(vocab), merges } }
}

t.test("the tables for CLIP's tokens are filled in slices", async (t) => {
  // CPU time, which other processes lengthen by little. In one piece it is 75 ms and more on an idle machine.
  t.ok(watch.delay.cpu < 60, `${watch.delay.cpu} ms`)
})

t.test('pieces have the ids of the whole text', async (t) => {
  const whole = new (Bpe as unknown as new (json: object, config: object) => any)(
    wholeJson(await clipVocabulary()),
    { unk_token: '<|endoftext|>' },
  )
  const random = new Random(1)
  // What tokens and normalization could span: blanks, digits, contractions, combining marks, special tokens, CJK.
  const parts = [
    ' ', '  ', '\n', '\t', '\u00a0', '\u2003', '1', '23', '٣', '½', "'s", "'", "it's", "2's", 'e\u0301', '\u0301', 'ﬁ', 'A', 'İ',
    'word', 'Straße', '猫', '犬の', '한글', '\u1100\u1161', '!', '?!', '...', '-', '<|endoftext|>', '<|startoftext|>', '<|', '|>',
    '🦖', '👩‍🚀', '\u200d', '\ufe0f', 'क्षि', '\u0000',
  ] // prettier-ignore
  for (let i = 0; i < 60; i++) {
    const text = Array.from({ length: 300 + random.below(900) }, () => random.pick(parts)).join('')
    const expected = whole.encode(text, { add_special_tokens: false }).ids as number[]
    const found = clip.ids(text)
    if (found.join() !== expected.join()) t.fail(`text ${i}: ${JSON.stringify(text.slice(0, 200))}`)
    if (text.length > 1000) t.ok([...clip.pieces(text)].length > 1, 'it is cut')
  }
  t.same(clip.ids(''), [])
})

t.test('long prompts leave the event loop free', async (t) => {
  const prompts = {
    'CJK words': '猫犬鳥 '.repeat(2048).slice(0, 2600),
    'unknown words': Array.from({ length: 900 }, (_, i) => `wordqx${i}`)
      .join(' ')
      .slice(0, 8192),
    digits: '1'.repeat(8000),
    brackets: '(a'.repeat(4000),
  }
  for (const [name, prompt] of Object.entries(prompts)) {
    let turns = 0
    let ended = false
    const turn = () => {
      turns++
      if (!ended) setImmediate(turn)
    }
    setImmediate(turn)
    // Sixteen of them: each one by itself may fit into one slice.
    const slice = new TimeSlice()
    for (let i = 0; i < 16; i++) await chunkPrompt(clip, prompt, { slice })
    ended = true
    t.ok(turns > 8, `${name}: ${turns} turns of the event loop`)
  }
})

t.test('an abort ends tokenizing', async (t) => {
  const controller = new AbortController()
  const slice = new TimeSlice(controller.signal)
  setImmediate(() => controller.abort(new Error('enough')))
  await t.rejects(
    (async () => {
      for (let i = 0; i < 1000; i++) await chunkPrompt(clip, 'a1 '.repeat(2700), { slice })
    })(),
    { message: 'enough' },
  )
})

t.test('limits', async (t) => {
  t.throws(() => clip.ids('a'.repeat(8193)), {
    name: 'RangeError',
    message: /at most 8192 characters for text/,
  })
  for (const text of [undefined, null, 5, ['a']]) {
    t.throws(() => clip.ids(text as never), { name: 'TypeError', message: /string for text/ })
    t.throws(() => clip.encode(text as never), { name: 'TypeError' })
    t.throws(() => clip.unknownWords(text as never), { name: 'TypeError' })
  }
  const message = /^Expected a prompt of at most 110 chunks of 75 tokens but received more$/
  await t.rejects(chunkPrompt(clip, '猫'.repeat(8192)), { name: 'RangeError', message })
  await t.rejects(chunkPrompt(clip, 'a BREAK '.repeat(120)), { name: 'RangeError', message })
  t.equal((await chunkPrompt(clip, 'a '.repeat(4096))).chunks, 55)
})
