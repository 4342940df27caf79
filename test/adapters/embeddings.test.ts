/** Textual inversion in every form, compared with diffusers (tools/fixtures/embeddings.py). */
import { copyFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { readEmbeddings } from '../../lib/adapters/index.js'
import { bundledModelPath, DiffusionPipeline, openModel, type GenerateOptions } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { chunkPrompt } from '../../lib/prompt/prompt.js'
import { writeSafetensors } from '../model-files/helpers.js'
import { largestDifference } from '../pipeline/support.js'

const fixtures = join(packageRoot(), 'test', 'fixtures')
const folder = join(fixtures, 'embeddings')
const { pictures } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as {
  pictures: {
    name: string
    model: 'emoji' | 'xl'
    embeddings: string[]
    options: GenerateOptions
    file: string
  }[]
}
const temporary = () => {
  const path = mkdtempSync(join(tmpdir(), 'node-diffusion-embeddings-'))
  t.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}
const root = temporary()
const xl = join(root, 'xl')
cpSync(join(fixtures, 'sdxl', 'base'), xl, { recursive: true })
for (const name of ['tokenizer', 'tokenizer_2'])
  cpSync(join(bundledModelPath(), 'tokenizer'), join(xl, name), { recursive: true })
const paths = (names: string[]) => names.map((name) => join(folder, name))

t.test('pictures equal those of diffusers', async (t) => {
  for (const { name, model, embeddings, options, file } of pictures) {
    await using pipe = await DiffusionPipeline.load(model === 'xl' ? xl : undefined, {
      precision: 'f32',
      embeddings: paths(embeddings),
    })
    const { images, warnings } = await pipe.generate(options)
    const { data } = await sharp(join(folder, file)).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    const worst = largestDifference(data, images[0].data)
    t.ok(worst <= 2, `${name}: differs by at most 2 of 255 levels (${worst})`)
    t.strictSame(warnings, [], name)
    t.equal(pipe.adapters.length, embeddings.length)
  }
})

t.test('older files hold the same vectors, and half precision is read', async (t) => {
  const model = await openModel(bundledModelPath())
  const { embeddings, reports } = await readEmbeddings(
    model,
    paths(['older.pt']).map((path) => ({ path })),
  )
  const { embeddings: newer } = await readEmbeddings(
    model,
    paths(['three-words.pt']).map((path) => ({ path })),
  )
  t.strictSame(embeddings[0].vectors, newer[0].vectors)
  t.equal(embeddings[0].count, 3)
  t.match(reports, [{ kind: 'textual inversion', applied: 1, unplaced: [], tokens: ['older'] }])
  const [one] = (await readEmbeddings(model, [{ path: join(folder, 'diffusers.bin') }])).embeddings
  t.strictSame(one.names, ['diffusers', '<red-thing>'])
  t.equal(one.vectors[0].length, 128)
})

t.test('names are words of prompts, in capitals or not, with weights, as ComfyUI writes them', async (t) => {
  const embeddings = [join(folder, 'three-words.pt'), { path: join(folder, 'diffusers.bin'), token: 'Thing' }]
  await using pipe = await DiffusionPipeline.load(undefined, { embeddings })
  t.match(pipe.adapters, [{ tokens: ['three-words'] }, { tokens: ['Thing'] }])
  const { tokenizer } = pipe
  const first = pipe.textEncoder.config.vocabSize
  const [three, thing] = [[first, first + 1, first + 2], [first + 3]]
  const noto = tokenizer.ids('noto')
  for (const [text, ids] of [
    ['three-words', three],
    ['noto Three-Words noto', [...noto, ...three, ...noto]],
    ['thing,THING', [...thing, ...tokenizer.ids(','), ...thing]],
    ['embedding:thing embedding:three-words.pt', [...thing, ...three]],
    ['(three-words:1.3)', three],
  ] as const) {
    const { tokens, weights } = await chunkPrompt(tokenizer, text)
    t.strictSame([...tokens.subarray(1, 1 + ids.length)], ids, text)
    if (text.startsWith('(')) t.ok(weights.subarray(1, 4).every((weight) => Math.abs(weight - 1.3) < 1e-6))
  }
  for (const text of ['something', 'thingy', 'thing_2', 'three-words2', 'anything'])
    t.notOk(
      tokenizer.ids(text).some((id) => id >= first),
      `${text} is another word`,
    )
  t.equal(tokenizer.decode(tokenizer.encode('noto three-words pizza')), 'noto three-words pizza')

  // An embedding that fits into a chunk is not split.
  const room = tokenizer.maxLength - 2
  const { tokens, chunks } = await chunkPrompt(tokenizer, 'noto '.repeat(room - 1) + 'three-words')
  t.equal(chunks, 2)
  t.strictSame([...tokens.subarray(tokenizer.maxLength + 1, tokenizer.maxLength + 4)], three)

  const { hidden } = { hidden: await pipe.textEncoder.encode(tokenizer.encode('three-words')) }
  t.ok(hidden.data.every(Number.isFinite))
  await t.rejects(pipe.textEncoder.encode(new Int32Array(room + 2).fill(first + 4)), RangeError)
})

t.test('names that are not loaded are warned about', async (t) => {
  await using pipe = await DiffusionPipeline.load(undefined, { embeddings: paths(['diffusers.bin']) })
  const warningsOf = async (prompt: string) =>
    (await pipe.generate({ prompt, steps: 1, seed: 1, width: 64, height: 64 })).warnings
  t.strictSame(await warningsOf('noto <red-thing>'), [])
  const warnings = await warningsOf('noto embedding:easynegative, <blue-thing>')
  const expected =
    'The prompt has embedding:easynegative, <blue-thing>, but no such embedding was loaded: these are plain words'
  t.ok(warnings.includes(expected), warnings.join('\n'))
})

t.test('files that are not for the model are named', async (t) => {
  const model = await openModel(bundledModelPath())
  const large = await openModel(xl)
  const file = join(temporary(), 'x.safetensors')
  const read = (tensors: Parameters<typeof writeSafetensors>[1], of = model) => {
    writeSafetensors(file, tensors)
    return readEmbeddings(of, [{ path: file }])
  }
  const cases: [Parameters<typeof writeSafetensors>[1], RegExp][] = [
    [{ emb_params: { shape: [2, 768] } }, /is for Stable Diffusion 1\.x, and the model is .*: expected vectors of 128 numbers, found \[2,768\]/],
    [{ '<x>': { shape: [1024] } }, /is for Stable Diffusion 2\.x/],
    [{ clip_l: { shape: [2, 768] }, clip_g: { shape: [2, 1280] } }, /is for Stable Diffusion XL/],
    [{ clip_l: { shape: [1, 128] }, clip_g: { shape: [1, 256] } }, /is for Stable Diffusion XL/],
    [{ emb_params: { shape: [2, 99] } }, /does not belong to this model/],
    [{ 'a.lora_down.weight': { shape: [2, 128] } }, /this is not an embedding: it is a LoRA/],
    [{ 'out.weight': { shape: [128] } }, /this is not an embedding/],
    [{ emb_params: { shape: [2, 128], type: 'I64' } }, /expected one of the types f32, f16, bf16, q8_0, found i64/],
  ] // prettier-ignore
  for (const [tensors, message] of cases)
    await t.rejects(read(tensors), { code: 'UNSUPPORTED_MODEL', message })
  await t.rejects(read({ emb_params: { shape: [2, 16] } }, large), {
    message: /expected vectors of 16 and 24 numbers/,
  })
  for (const shape of [
    [0, 128],
    [2000, 128],
  ])
    await t.rejects(read({ emb_params: { shape } }), { code: 'MODEL_FORMAT', message: /1 to 1024 vectors/ })
  await t.rejects(read({ clip_l: { shape: [2, 16] }, clip_g: { shape: [3, 24] } }, large), {
    code: 'MODEL_FORMAT',
    message: /as many vectors for both/,
  })
  writeSafetensors(file, { emb_params: { shape: [128] } })
  const bytes = readFileSync(file)
  bytes.writeFloatLE(NaN, bytes.length - 4)
  writeFileSync(file, bytes)
  await t.rejects(readEmbeddings(model, [{ path: file }]), { message: /finite numbers/ })
  await t.rejects(DiffusionPipeline.load(join(folder, 'bad_pictures.safetensors')), {
    message: /textual inversion embedding.*give it to load\(\) as one of embeddings/,
  })
})

t.test('embeddings of load() are checked', async (t) => {
  const path = join(folder, 'diffusers.bin')
  const copy = join(temporary(), 'DIFFUSERS.bin')
  copyFileSync(path, copy)
  for (const [embeddings, constructor, message] of [
    ['a.pt', TypeError, /Expected array of paths for embeddings/],
    [[1], TypeError, /embeddings\[0\]/],
    [[{ path, name: 'x' }], TypeError, /embeddings\[0\]\.name/],
    [[{ path, token: '' }], RangeError, /1 to 256 characters/],
    [[{ path, token: ' x' }], RangeError, /without blanks at the ends/],
    [[path, copy], RangeError, /Expected embeddings of different names but .* are both "DIFFUSERS"/],
  ] as const)
    await t.rejects(DiffusionPipeline.load(undefined, { embeddings: embeddings as never }), {
      constructor,
      message,
    })
  await t.rejects(DiffusionPipeline.load(undefined, { embeddings: [join(folder, 'none.pt')] }), {
    code: 'MODEL_NOT_FOUND',
  })
})
