/** Files of tokenizers are checked when they are read; trained tokens are one id each, as in transformers. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { bundledModelPath, DiffusionPipeline } from '../../lib/index.js'
import { readTokenizer } from '../../lib/models/tokenizer-files.js'
import { Tokenizer } from '../../lib/prompt/tokenizer.js'

const source = join(bundledModelPath(), 'tokenizer')
const [VOCAB, MERGES, JSON_TEXT] = ['vocab.json', 'merges.txt', 'tokenizer.json'].map((name) =>
  readFileSync(join(source, name), 'utf8'),
) as [string, string, string]
const create = (texts: object) => Tokenizer.create({ maxLength: 32, padToken: '<|endoftext|>', ...texts })
type Vocab = Record<string, unknown>
const vocabWith = (change: (vocab: Vocab) => void) => {
  const vocab = JSON.parse(VOCAB) as Vocab
  change(vocab)
  return JSON.stringify(vocab)
}
const jsonWith = (
  change: (json: { model: { vocab: Vocab; merges: unknown[] }; added_tokens: unknown }) => void,
) => {
  const json = JSON.parse(JSON_TEXT) as Parameters<typeof change>[0]
  change(json)
  return JSON.stringify(json)
}

t.test('damaged files name the file and the entry', async (t) => {
  const ids: [unknown, RegExp][] = [
    [null, /null/],
    ['7', /"7"/],
    [7.5, /7\.5/],
    [7 + 2 ** 32, /4294967303/],
    [-1, /-1/],
    [{}, /\{\}/],
  ]
  for (const [id, found] of ids) {
    const message = /expected an integer from 0 to 16777215 for the token "red<\/w>" but received/
    const vocab = vocabWith((v) => (v['red</w>'] = id))
    const tokenizerJson = jsonWith(({ model }) => (model.vocab['red</w>'] = id))
    for (const texts of [{ vocab, merges: MERGES }, { tokenizerJson }]) {
      const name = `${Object.keys(texts)[0]}: ${JSON.stringify(id)}`
      await t.rejects(create(texts), { code: 'MODEL_FORMAT', message }, name)
      await t.rejects(create(texts), { message: found }, name)
      await t.rejects(create(texts), { message: /^(vocab|tokenizer)\.json: / }, name)
    }
  }
  const cut = (bytes: number) => MERGES.slice(0, -bytes)
  const lines = MERGES.trimEnd().split('\n')
  const merges: [string, RegExp][] = [
    [
      cut(lines.at(-1)!.length),
      /is not in the vocabulary|expected two tokens|expected a merge that makes the last token/,
    ],
    [lines.slice(0, 1000).join('\n'), /merges\.txt: expected a merge that makes the last token .* cut short/],
    [`${MERGES}red\n`, /merges\.txt: line \d+: expected two tokens but received \["red"\]/],
    [`${MERGES}a b c\n`, /expected two tokens/],
    [`${MERGES}zq qz\n`, /makes "zqqz", which is not in the vocabulary/],
    ['a b\n'.repeat(70_000), /merges\.txt: expected at most 65536 merges/],
  ]
  for (const [text, message] of merges)
    await t.rejects(create({ vocab: VOCAB, merges: text }), { code: 'MODEL_FORMAT', message })
  const pairs: [unknown, RegExp][] = [
    [7, /tokenizer\.json: merges\[3\]: expected two tokens but received 7/],
    [[1, 2], /merges\[3\]: expected two tokens but received \[1,2\]/],
    [null, /received null/],
    ['ab', /received "ab"/],
  ]
  for (const [pair, message] of pairs) {
    const tokenizerJson = jsonWith(({ model }) => (model.merges[3] = pair))
    await t.rejects(create({ tokenizerJson }), { code: 'MODEL_FORMAT', message })
  }
  for (const vocab of ['[]', '7', 'null', '{', '{"a":1', '<html>'])
    await t.rejects(
      create({ vocab, merges: MERGES }),
      { code: 'MODEL_FORMAT', message: /vocab\.json/ },
      vocab,
    )
  const many = JSON.stringify(Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`t${i}`, i])))
  await t.rejects(create({ vocab: many, merges: MERGES }), {
    message: /vocab\.json: expected at most 65536 tokens/,
  })
})

t.test('ids that the text encoder does not know are refused at load()', async (t) => {
  const model = folder(t)
  cpSync(bundledModelPath(), model, { recursive: true })
  rmSync(join(model, 'tokenizer/tokenizer.json'))
  writeFileSync(join(model, 'tokenizer/added_tokens.json'), '{"<my-cat>":2577}')
  const message =
    /expected ids below 2577, the size of the text encoder's vocabulary, but the token "<my-cat>" has the id 2577/
  await t.rejects(DiffusionPipeline.load(model), { code: 'MODEL_FORMAT', message })
  writeFileSync(join(model, 'tokenizer/added_tokens.json'), '{"<my-cat>":"7"}')
  await t.rejects(DiffusionPipeline.load(model), {
    code: 'MODEL_FORMAT',
    message: /added_tokens\.json: expected integer/,
  })
  writeFileSync(join(model, 'tokenizer/added_tokens.json'), '{"<my-cat>":7}')
  await t.rejects(DiffusionPipeline.load(model), {
    code: 'MODEL_FORMAT',
    message: /has the id 7 of the token/,
  })
})

/** Ids of transformers 5.24.0 with these tokens added to the bundled model's tokenizer. */
const IDS: [text: string, ids: number[]][] = [
  ['a <my-cat> photo', [320, 2577, 1960]],
  ['<My-Cat>', [2577]],
  ['a<my-cat>b', [320, 2577, 321]],
  ['<my-cat><my-cat>', [2577, 2577]],
  ['x <my-cat>  y', [343, 2577, 344]],
  ['<my-cat>s', [2577, 338]],
  ['my-cat red <my-cat>, blue', [2041, 268, 1229, 562, 2577, 267, 553]],
  ['*s red', [2578, 562]],
  ['red *s', [562, 2578]],
  ['<<my-cat>>', [283, 2577, 285]],
  ['New Token red', [2579, 562]],
  ['new token', [2579]],
  ['a newtoken b', [320, 574, 86, 567, 74, 545, 321]],
  ['red <MY-CAT>', [562, 2577]],
]
const TOKENS = { '<my-cat>': 2577, '*s': 2578, 'New Token': 2579 }

t.test('trained tokens have the ids of transformers', async (t) => {
  const list = Object.entries(TOKENS).map(([content, id]) => ({
    id,
    content,
    special: false,
    normalized: true,
  }))
  const places: Record<string, (folder: string) => void> = {
    'added_tokens.json': (path) => writeFileSync(join(path, 'added_tokens.json'), JSON.stringify(TOKENS)),
    'tokenizer.json alone': (path) => {
      for (const name of ['vocab.json', 'merges.txt']) rmSync(join(path, name))
      const text = jsonWith((json) => (json.added_tokens = [...(json.added_tokens as object[]), ...list]))
      writeFileSync(join(path, 'tokenizer.json'), text)
    },
    'tokenizer.json beside the others': (path) => {
      const text = jsonWith((json) => (json.added_tokens = [...(json.added_tokens as object[]), ...list]))
      writeFileSync(join(path, 'tokenizer.json'), text)
    },
    added_tokens_decoder: (path) => {
      const decoder = Object.fromEntries(list.map(({ id, ...token }) => [id, token]))
      writeFileSync(join(path, 'tokenizer_config.json'), JSON.stringify({ added_tokens_decoder: decoder }))
    },
  }
  for (const [name, write] of Object.entries(places)) {
    const path = folder(t)
    cpSync(source, path, { recursive: true })
    write(path)
    const tokenizer = await Tokenizer.create(await readTokenizer(path, 32))
    for (const [text, ids] of IDS) t.same(tokenizer.ids(text), ids, `${name}: ${text}`)
    t.same(tokenizer.last, { token: 'New Token', id: 2579 })
  }
})

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-vocabulary-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}
