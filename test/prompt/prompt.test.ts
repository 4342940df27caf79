import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import t from 'tap'
import { applyWeights } from '../../lib/prompt/emphasis.js'
import { chunkPrompt, equalizeChunks, padChunks, parsePrompt } from '../../lib/prompt/prompt.js'
import { Tokenizer } from '../../lib/prompt/tokenizer.js'

const near = (a: number, b: number): boolean => Math.abs(a - b) < 1e-6

t.test('weights', (t) => {
  const cases: [string, [string, number][]][] = [
    ['normal text', [['normal text', 1]]],
    ['', [['', 1]]],
    [
      'a (word) b',
      [
        ['a ', 1],
        ['word', 1.1],
        [' b', 1],
      ],
    ],
    [
      'a (word:1.5) b',
      [
        ['a ', 1],
        ['word', 1.5],
        [' b', 1],
      ],
    ],
    [
      'a [word] b',
      [
        ['a ', 1],
        ['word', 1 / 1.1],
        [' b', 1],
      ],
    ],
    ['((word))', [['word', 1.21]]],
    ['[[word]]', [['word', 1 / 1.21]]],
    ['([word])', [['word', 1]]],
    [
      '(a (b:2) c)',
      [
        ['a ', 1.1],
        ['b', 2.2],
        [' c', 1.1],
      ],
    ],
    ['((a:2):3)', [['a', 6]]],
    ['(a:0.5)', [['a', 0.5]]],
    [
      '(a:.5)(b:2.)',
      [
        ['a', 0.5],
        ['b', 2],
      ],
    ],
    ['(a:-1)', [['a', -1]]],
    ['(a:+1.5)', [['a', 1.5]]],
    ['(a : 1.5 )', [['a ', 1.5]]],
    ['(a:0)', [['a', 0]]],
    ['(12:30)', [['12', 30]]],
    ['at 12:30 now', [['at 12:30 now', 1]]],
    ['(a:b)', [['a:b', 1.1]]],
    ['(a:1.2.3)', [['a:1.2.3', 1.1]]],
    ['a:1.2)', [['a:1.2)', 1]]],
    ['\\(literal\\]', [['(literal]', 1]]],
    ['(a \\(b\\):1.3)', [['a (b)', 1.3]]],
    [
      '\\\\(a)',
      [
        ['\\', 1],
        ['a', 1.1],
      ],
    ],
    ['a\\b', [['ab', 1]]],
    // Unbalanced brackets.
    ['(a', [['a', 1.1]]],
    [
      '((a) b',
      [
        ['a', 1.21],
        [' b', 1.1],
      ],
    ],
    ['a)', [['a)', 1]]],
    [']a[', [[']a', 1]]],
    [
      'a (b]',
      [
        ['a ', 1],
        ['b]', 1.1],
      ],
    ],
    [
      '(a [b)c]',
      [
        ['a ', 1.1],
        ['b', 1],
        ['c', 1 / 1.1],
      ],
    ],
    ['()', [['', 1]]],
    ['(:1.5)', [['', 1]]],
    [
      'a house, ((x:1.3)) [on] y',
      [
        ['a house, ', 1],
        ['x', 1.43],
        [' ', 1],
        ['on', 1 / 1.1],
        [' y', 1],
      ],
    ],
  ]
  for (const [prompt, expected] of cases) {
    const parts = parsePrompt(prompt)
    t.same(
      parts.map((part) => part.text),
      expected.map(([text]) => text),
      prompt,
    )
    t.ok(
      parts.every((part, i) => near(part.weight, expected[i][1])),
      `${prompt}: ${parts.map((part) => part.weight).join(' ')}`,
    )
  }
  t.end()
})

t.test('BREAK', (t) => {
  const texts = (prompt: string): [string, boolean][] =>
    parsePrompt(prompt).map((p) => [p.text, p.breakBefore ?? false])
  t.same(texts('a BREAK b'), [
    ['a', false],
    ['b', true],
  ])
  t.same(texts('a\nBREAK\nb BREAK c'), [
    ['a', false],
    ['b', true],
    ['c', true],
  ])
  t.same(texts('BREAKFAST, break, Break, xBREAK'), [['BREAKFAST, break, Break, xBREAK', false]])
  t.same(texts('BREAK'), [
    ['', false],
    ['', true],
  ])
  t.same(parsePrompt('(a BREAK b:2)'), [
    { text: 'a', weight: 2 },
    { text: 'b', weight: 2, breakBefore: true },
  ])
  t.end()
})

t.test('chunks', async (t) => {
  const clip = await Tokenizer.create(null)
  const row = (chunks: { tokens: Int32Array }, i: number): number[] => [
    ...chunks.tokens.subarray(i * 77, (i + 1) * 77),
  ]
  const a = clip.ids('a')[0]
  const comma = clip.ids(',')[0]
  const repeat = (id: number, n: number): number[] => Array<number>(n).fill(id)

  t.test('a short prompt is one chunk, as from the tokenizer', async (t) => {
    for (const text of ['', 'a photo of a cat', "it's 4:30 — ☕️"]) {
      const { tokens, weights, chunks } = await chunkPrompt(clip, text)
      t.equal(chunks, 1)
      t.same(tokens, clip.encode(text))
      t.ok(weights.every((weight) => weight === 1))
    }
  })

  t.test('each token has its weight', async (t) => {
    const { weights } = await chunkPrompt(clip, 'a (red cat:1.5), [dog]')
    t.same([...weights.subarray(0, 8)], [1, 1, 1.5, 1.5, 1, 1 / 1.1, 1, 1].map(Math.fround))
  })

  t.test('75 tokens fill one chunk, 76 need two', async (t) => {
    t.equal((await chunkPrompt(clip, 'a '.repeat(75))).chunks, 1)
    const two = await chunkPrompt(clip, 'a '.repeat(76))
    t.equal(two.chunks, 2)
    t.same(row(two, 0), [clip.bos, ...repeat(a, 75), clip.eos])
    t.same(row(two, 1), [clip.bos, a, ...repeat(clip.eos, 75)])
    t.equal((await chunkPrompt(clip, 'a '.repeat(75 * 3))).chunks, 3)
  })

  t.test('a full chunk is split at a comma among its last 20 tokens', async (t) => {
    const at = (before: number): ReturnType<typeof chunkPrompt> =>
      chunkPrompt(clip, `${'a '.repeat(before)}, (${'a '.repeat(40)}:2)`)
    // Comma at position 55 of 0…74: 20 from the end.
    const cut = await at(55)
    t.same(row(cut, 0), [clip.bos, ...repeat(a, 55), comma, ...repeat(clip.eos, 20)])
    t.same(row(cut, 1).slice(0, 42), [clip.bos, ...repeat(a, 40), clip.eos])
    t.same([...cut.weights.subarray(77, 77 + 43)], [1, ...repeat(2, 40), 1, 1])
    t.ok(
      cut.weights.subarray(0, 77).every((weight) => weight === 1),
      'weights follow their tokens',
    )
    const notCut = await at(54)
    t.same(row(notCut, 0), [clip.bos, ...repeat(a, 54), comma, ...repeat(a, 20), clip.eos])
    t.same(row(notCut, 1).slice(0, 22), [clip.bos, ...repeat(a, 20), clip.eos])
  })

  t.test('a comma that does not fit goes to the next chunk', async (t) => {
    const two = await chunkPrompt(clip, `${'a '.repeat(60)}, ${'a '.repeat(14)}, a`)
    t.same(row(two, 0), [clip.bos, ...repeat(a, 60), comma, ...repeat(a, 14), clip.eos])
    t.same(row(two, 1).slice(0, 4), [clip.bos, comma, a, clip.eos])
  })

  t.test('BREAK', async (t) => {
    const two = await chunkPrompt(clip, 'a BREAK a a')
    t.equal(two.chunks, 2)
    t.same(row(two, 0).slice(0, 3), [clip.bos, a, clip.eos])
    t.same(row(two, 1).slice(0, 4), [clip.bos, a, a, clip.eos])
    t.equal((await chunkPrompt(clip, 'a BREAK')).chunks, 1)
    t.equal((await chunkPrompt(clip, 'a BREAK BREAK a')).chunks, 3, 'with an empty chunk between them')
  })

  t.test('without weighting, everything is text', async (t) => {
    const prompt = '(a:1.5) BREAK [b] \\('
    const plain = await chunkPrompt(clip, prompt, { weighting: false })
    t.same(plain.tokens, clip.encode(prompt))
    t.ok(plain.weights.every((weight) => weight === 1))
  })

  t.test('prompt and negative prompt get the same number of chunks', async (t) => {
    const [long, short] = [await chunkPrompt(clip, 'a '.repeat(160)), await chunkPrompt(clip, '(b:2)')]
    const [x, y] = equalizeChunks(clip, long, short)
    t.equal(x, long)
    t.equal(y.chunks, 3)
    t.same(row(y, 0), row(short, 0))
    t.equal(y.weights[1], 2)
    for (const i of [1, 2]) t.same(row(y, i), [...clip.encode('')])
    t.ok(y.weights.subarray(77).every((weight) => weight === 1))
    t.equal(padChunks(clip, short, 1), short)
  })

  t.test('a short text encoder', async (t) => {
    const { vocab, merges } = JSON.parse(
      readFileSync(resolve('test/fixtures/tokenizer/emoji.json'), 'utf8'),
    ) as Record<string, string>
    const small = await Tokenizer.create({ vocab, merges, maxLength: 24, padToken: '!' })
    const { tokens, chunks } = await chunkPrompt(small, 'red '.repeat(30))
    t.equal(chunks, 2)
    t.equal(tokens.length, 48)
    t.equal(tokens[23], small.eos)
    t.equal(tokens[47], 0, 'padded with the padding token')
  })
})

t.test('emphasis', async (t) => {
  const data = Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8)
  t.test('weights of 1 do not change anything, not even the last bit', async (t) => {
    const same = await applyWeights({ data, shape: [2, 2, 2] }, [1, 1, 1, 1])
    t.same(same, { data, shape: [1, 4, 2] })
    t.not(same.data, data, 'a copy')
  })
  t.test('each chunk keeps its own mean', async (t) => {
    // First chunk: 1 2 6 8 has the mean 4.25 in place of 2.5.
    const weighted = await applyWeights({ data, shape: [2, 2, 2] }, [1, 2, 1, 1])
    const factor = 2.5 / 4.25
    const expected = [1 * factor, 2 * factor, 6 * factor, 8 * factor, 5, 6, 7, 8]
    t.ok([...weighted.data].every((value, i) => near(value, expected[i])))
    t.same([...data], [1, 2, 3, 4, 5, 6, 7, 8], 'the argument is not changed')
  })
  t.test('a mean of zero after weighting', async (t) => {
    const weighted = await applyWeights({ data: Float32Array.of(1, 1, 1, 1), shape: [1, 2, 2] }, [1, -1])
    t.same([...weighted.data], [1, 1, -1, -1])
  })
  t.test('shapes that do not fit', async (t) => {
    await t.rejects(applyWeights({ data, shape: [2, 2, 2] }, [1]), RangeError)
    await t.rejects(applyWeights({ data, shape: [4, 2] }, [1, 1, 1, 1]), RangeError)
  })
})
