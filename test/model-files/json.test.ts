/** The JSON parsers, for short and for long texts, accept and refuse what JSON.parse does, except for their limits. */
import t from 'tap'
import { parseJson, type JsonOptions } from '../../lib/models/formats/json.js'
import { SHORT_JSON } from '../../lib/short-json.js'
import { randomizer } from './helpers.js'

const parseAsItIs = (text: string | Buffer, options?: JsonOptions) =>
  parseJson('file', Buffer.from(text), options)
const blanks = Buffer.alloc(SHORT_JSON, ' ')

/** Parses a text, and the same text made so long that it is parsed in steps. Both must say the same. */
async function parse(text: string | Buffer, options: JsonOptions = {}): Promise<unknown> {
  const { onField, ...others } = options
  const says = async (bytes: Buffer) => {
    try {
      return JSON.stringify({ value: (await parseAsItIs(bytes, others)) ?? null })
    } catch (error) {
      return /gives .* twice/.exec((error as Error).message)?.[0] ?? 'refused'
    }
  }
  const inSteps = await says(Buffer.concat([Buffer.from(text), blanks]))
  const atOnce = await says(Buffer.from(text))
  if (atOnce !== inSteps) t.equal(atOnce, inSteps, text.toString().slice(0, 100))
  return parseAsItIs(text, onField ? { ...others, onField } : others)
}
/** With prototypes. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value))

const VALID = [
  '0', '-0', '-1.5e+3', '1E-2', '"a"', 'true', 'false', 'null', '[]', '{}', ' [ 1 , 2 ] ', '{"a":{"b":[null,{}]}}',
  '"\\u0041\\n\\"\\\\\\/ é 😀"', '"\\ud83d\\ude00"', '"\\ud83d"', '{"":1}', '{"__proto__":{"a":1}}', '[[[[]]],[]]',
  '{"a":1,"a":2}', '{"constructor":1}', '\n\t\r{"a":\n1}',
] // prettier-ignore

const INVALID = [
  '', ' ', '{', '[', '"', '"a', '{"a"', '{"a":', '{"a":1', '{"a":1,', '{"a":1,}', '[1,', '[1,]', '[1 2]', '01', '1.',
  '.5', '+1', '-', 'nul', 'nulll', 'True', 'NaN', 'Infinity', "{'a':1}", '{a:1}', '"\\x"', '"\\u12"', '"\n"', '[]]',
  '{}{}', '1 2', '{"a" 1}', '[,1]', '{,}', '"\\', '"\\u', '}', 'undefined', '/* */1',
] // prettier-ignore

t.test('like JSON.parse', async (t) => {
  for (const text of VALID) t.same(plain(await parse(text)), JSON.parse(text), text)
  for (const text of INVALID) {
    t.throws(() => JSON.parse(text) as unknown, text)
    await t.rejects(
      parse(text),
      { code: 'MODEL_FORMAT', message: /^file: is not valid JSON: expected / },
      text,
    )
  }
  t.equal(Object.is(await parse('-0'), -0), true)
  t.equal(await parse('\ufeff1'), 1, 'a byte order mark')
  t.equal(Object.hasOwn((await parse('{"__proto__":1}')) as object, '__proto__'), true)
})

t.test('like JSON.parse, with damaged text', async (t) => {
  const random = randomizer(7)
  const seed = '{"a":[1,-2.5e3,"x\\n\\u00e9\\"y"],"b":{"c":null,"d":[true,false,{}]},"é😀":"日本"}'
  let valid = 0
  for (let i = 0; i < 1500; i++) {
    const characters = [...seed]
    for (let k = random(3); k >= 0; k--)
      characters[random(characters.length)] = '{}[]",:\\u0e1- tnfé'[random(18)]
    const text = characters.join('')
    let expected: unknown
    try {
      expected = { value: JSON.parse(text) as unknown }
      valid++
    } catch {
      expected = undefined
    }
    const found = await parse(text).then(
      (value) => ({ value: plain(value) }),
      () => undefined,
    )
    if (JSON.stringify(found) !== JSON.stringify(expected)) t.same(found, expected, text)
  }
  t.ok(valid > 50 && valid < 1450, `${valid} were valid`)
})

t.test('long strings, in pieces', async (t) => {
  for (const piece of ['é', 'a', '\\u00e9', '\\\\', '\\ud83d\\ude00', 'ab\\"', '日本\\n']) {
    const text = JSON.stringify('x') + `,"${piece.repeat(30_000)}","end"`
    t.same(await parse(`[${text}]`), JSON.parse(`[${text}]`), piece)
  }
  await t.rejects(parse(`"${'a'.repeat(100_000)}`), { message: /expected the end of a string/ })
  await t.rejects(parse(`"${'a'.repeat(100_000)}\\u12zz"`), { message: /expected a valid string/ })
})

t.test('text that is not UTF-8', async (t) => {
  for (const bytes of [[0x22, 0xff, 0x22], [0x22, 0xc3, 0x22], [0xed, 0xa0, 0x80], [0x80]])
    await t.rejects(parse(Buffer.from(bytes)), { code: 'MODEL_FORMAT', message: /expected text in UTF-8/ })
  const long = Buffer.from(`"${'日'.repeat(500_000)}"`)
  t.equal(((await parse(long)) as string).length, 500_000)
  long[1_200_000] = 0xff
  await t.rejects(parse(long), { message: /UTF-8/ })
})

t.test('limits and repeated keys', async (t) => {
  await t.rejects(parse('['.repeat(65) + ']'.repeat(65)), { message: /at most 64 levels/ })
  await t.rejects(parse(`[${'0,'.repeat(2_000_000)}0]`), { message: /at most 2000000 values/ })
  await t.rejects(parse('1'.repeat(500)), { message: /expected a value/ })
  await t.rejects(parse(`{"${'a'.repeat(20_000)}":1}`), { message: /keys of at most 16384 bytes/ })
  await t.rejects(parse('{"a":1,"b":2,"a":3}', { unique: true }), { message: /gives "a" twice/ })
  for (const other of ['"b:":2', '"b":":"', '"b\\u003a":2', '"b":"\\u003A"', '"b\\u003a":"\\u003a"'])
    await t.rejects(parse(`{"a":1,${other},"a":3}`, { unique: true }), { message: /gives "a" twice/ }, other)
  t.same(plain(await parse('{"a:b":":","c":{"a:b":1}}', { unique: true })), {
    'a:b': ':',
    c: { 'a:b': 1 },
  })
  await t.rejects(parse('{"b":{"a":1,"a":3}}', { unique: true, what: 'header' }), {
    message: /file: header gives "a" twice/,
  })
  const fields: unknown[] = []
  const onField = (key: string, value: unknown) => fields.push([key, value])
  await parse('{"a":1,"b":{"c":2},"d":[]}', { onField })
  t.same(plain(fields), [['a', 1], ['b', { c: 2 }], ['d', []]]) // prettier-ignore
  await t.rejects(parse('{"a":1,"a":1}', { onField, unique: true }), { message: /"a" twice/ })
  await t.rejects(parse('<!DOCTYPE html>'), { message: /this is a web page/ })
  await t.rejects(parse('version https://git-lfs.github.com/spec/v1'), { message: /Git LFS pointer/ })
})
