/** LoRAs of one call, and LoRAs that prompts name. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { applyLora } from '../../lib/adapters/index.js'
import {
  DiffusionPipeline,
  openModel,
  quantizeModel,
  type LoadOptions,
  type LoraOption,
} from '../../lib/index.js'
import { bundledModelPath } from '../../lib/pipeline/diffusion-pipeline.js'
import { packageRoot } from '../../lib/package-root.js'
import { takeLoras } from '../../lib/prompt/lora-syntax.js'

const folder = join(packageRoot(), 'test', 'fixtures', 'adapters')
const file = (name: string) => join(folder, `${name}.safetensors`)
const root = mkdtempSync(join(tmpdir(), 'node-diffusion-call-loras-'))
t.teardown(() => rmSync(root, { recursive: true, force: true }))
const request = { prompt: 'noto pizza', seed: 1, steps: 2, outputType: 'latents' } as const

async function draw(pipe: DiffusionPipeline, loras?: LoraOption[], prompt: string = request.prompt) {
  const { latents } = await pipe.generate({ ...request, prompt, ...(loras && { loras }) })
  return latents!.data
}
async function drawLoaded(model: string | undefined, options: LoadOptions) {
  await using pipe = await DiffusionPipeline.load(model, options)
  return await draw(pipe)
}

t.test('pictures are those of a model that was loaded with the LoRAs, bit for bit', async (t) => {
  const models: [string, string | undefined, LoadOptions][] = [
    ['float32', undefined, { precision: 'f32' }],
    ['automatic', undefined, {}],
  ]
  for (const type of ['q8_0', 'q4_0'] as const) {
    const path = join(root, `${type}.gguf`)
    await quantizeModel(bundledModelPath(), path, { type })
    models.push([type, path, {}], [`${type}, low memory`, path, { lowMemory: true }])
  }
  const cases: LoraOption[][] = [
    [file('kohya')],
    [{ path: file('peft'), scale: -0.5 }],
    [file('dora')],
    [{ path: file('kohya'), scale: 0.6 }, { path: file('peft'), scale: 0.8 }], // prettier-ignore
  ]
  for (const [name, model, options] of models) {
    await using pipe = await DiffusionPipeline.load(model, options)
    const plain = await draw(pipe)
    const bytes = pipe.unet.weightBytes
    for (const loras of name === 'float32' ? cases : cases.slice(3)) {
      const own = await draw(pipe, loras)
      t.strictSame(own, await drawLoaded(model, { ...options, loras }), name)
      t.notSame(own, plain)
      t.strictSame(await draw(pipe), plain, `${name}: the next call is without them`)
    }
    t.equal(pipe.unet.weightBytes, bytes)
    t.strictSame(pipe.adapters, [])
  }
  const first = { path: file('kohya'), scale: 0.6 }
  await using pipe = await DiffusionPipeline.load(undefined, { loras: [first] })
  t.strictSame(
    await draw(pipe, [file('peft')]),
    await drawLoaded(undefined, { loras: [first, file('peft')] }),
  )
  const { adapters, parameters } = await pipe.generate({
    ...request,
    loras: [{ path: file('peft'), scale: 2 }],
  })
  t.match(adapters, [
    { kind: 'LoCon', scale: 0.6 },
    { kind: 'LoCon', scale: 2 },
  ])
  t.equal(parameters[0].extra?.Loras, 'kohya: 0.6, peft: 2')
  t.equal(pipe.adapters.length, 1)
})

t.test('calls with different LoRAs wait for each other, and components stay as they are', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const lists = [undefined, [file('kohya')], [file('peft')], [{ path: file('kohya'), scale: -1 }], undefined]
  const alone: Float32Array[] = []
  for (const loras of lists) alone.push(await draw(pipe, loras))
  t.strictSame(await Promise.all(lists.map((loras) => draw(pipe, loras))), alone)

  const context = await pipe.textEncoder.encode(pipe.tokenizer.encode('noto pizza'))
  const latents = { data: new Float32Array(256).map((_, i) => Math.sin(i)), shape: [1, 4, 8, 8] }
  const predict = () => pipe.unet.predict({ latents, context, timestep: 500 })
  const before = await predict()
  let during: unknown[] = []
  const onStep = async () => {
    during = [await predict(), await pipe.textEncoder.encode(pipe.tokenizer.encode('noto pizza'))]
  }
  await pipe.generate({ ...request, loras: [file('kohya')], onStep })
  t.strictSame(during, [before, context], 'in the middle of the run')
  t.strictSame(await predict(), before, 'after it')

  const steps = pipe.steps({ ...request, loras: [file('kohya')] })
  await steps.next()
  t.strictSame(await draw(pipe), alone[0], 'between two steps of another run')
  let next = await steps.next()
  while (!next.done) next = await steps.next()
  t.strictSame(next.value.latents!.data, alone[1])
})

t.test('errors and aborts leave the model as it was', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const plain = await draw(pipe)
  await t.rejects(draw(pipe, [file('kohya'), join(root, 'none.pt')]), { code: 'MODEL_NOT_FOUND' })
  await t.rejects(draw(pipe, [file('kohya'), file('lokr')]), { code: 'UNSUPPORTED_MODEL' })
  await t.rejects(draw(pipe, [{ path: file('kohya'), blockScales: { up: 1 } }]), {
    name: 'RangeError',
    message: /^Expected name of a part of the UNet, such as mid_block, for blockScales/,
  })
  for (const step of [0, 1]) {
    const abort = new AbortController()
    const run = pipe.generate({
      ...request,
      loras: [file('kohya')],
      signal: abort.signal,
      onStep: (event) => event.step === step && abort.abort(),
    })
    if (step === 0) setImmediate(() => abort.abort())
    await t.rejects(run, { name: 'AbortError' })
    t.strictSame(await draw(pipe), plain)
  }
  await t.rejects(
    pipe.generate({ ...request, loras: [file('kohya')], onStep: () => Promise.reject(new Error('mine')) }),
    { message: 'mine' },
  )
  t.strictSame(await draw(pipe), plain)
  const other = await DiffusionPipeline.load()
  const disposed = draw(other, [file('kohya')])
  await other.dispose()
  await t.rejects(disposed, { code: 'DISPOSED' })
})

t.test('the memory that a call needs counts its LoRAs', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const [plain, more] = [pipe.memoryNeeded(), pipe.memoryNeeded({ loras: ['a.safetensors'] })]
  t.equal(more.weights - plain.weights, pipe.unet.weightBytes + pipe.textEncoder.weightBytes)
  t.equal(more.total, more.weights + more.working)
})

t.test('prompts name LoRAs of a folder', async (t) => {
  const loraFolder = join(root, 'loras')
  mkdirSync(join(loraFolder, 'styles'), { recursive: true })
  cpSync(file('kohya'), join(loraFolder, 'styles', 'Soft Light.safetensors'))
  cpSync(file('peft'), join(loraFolder, 'peft.safetensors'))
  cpSync(file('peft'), join(loraFolder, 'styles', 'twice.safetensors'))
  cpSync(file('peft'), join(loraFolder, 'twice.safetensors'))
  cpSync(file('peft'), join(loraFolder, 'styles', 'same.pt'))
  mkdirSync(join(loraFolder, 'more'))
  cpSync(file('peft'), join(loraFolder, 'more', 'same.safetensors'))
  await using pipe = await DiffusionPipeline.load(undefined, { loraFolder })
  const expected = await draw(pipe, [
    { path: file('kohya'), scale: 0.6 },
    { path: file('peft'), scale: 0.8 },
  ])
  for (const prompt of [
    '<lora:Soft Light:0.6>noto pizza<lora:peft:.8>',
    '<lora:styles/soft light:0.6>noto pizza<lyco:peft:0.8>',
  ])
    t.strictSame(await draw(pipe, undefined, prompt), expected, prompt)
  t.strictSame(
    await draw(pipe, undefined, '<lora:Soft Light:0.5:1>noto pizza'),
    await draw(pipe, [{ path: file('kohya'), textEncoderScale: 0.5 }]),
  )
  const { warnings, parameters, adapters } = await pipe.generate({ ...request, prompt: 'noto <lora:peft>' })
  t.strictSame(warnings, [])
  t.equal(parameters[0].prompt, 'noto <lora:peft>', 'the prompt is recorded as it was given')
  t.match(
    adapters,
    [{ scale: 1, applied: 138 }].map(({ scale }) => ({ scale })),
  )

  for (const [prompt, error] of [
    ['<lora:pef:1>', { code: 'MODEL_NOT_FOUND', message: /there is no LoRA "pef", did you mean peft\?/ }],
    ['<lora:../kohya:1>', { code: 'MODEL_NOT_FOUND' }],
    [`<lora:${file('kohya')}:1>`, { code: 'MODEL_NOT_FOUND' }],
    ['<lora:same:1>', { name: 'RangeError', message: /Expected one LoRA "same" in .* but there are / }],
    ['<lora:peft:much>', { name: 'RangeError', message: /number between -100 and 100 for <lora:peft:much>/ }],
    ['<lora:peft:1e9>', { name: 'RangeError' }],
    ['<lora:peft>'.repeat(33), { name: 'RangeError', message: /at most 32 LoRAs/ }],
  ] as const)
    await t.rejects(draw(pipe, undefined, prompt), error, prompt)
  await t.rejects(pipe.generate({ ...request, prompt: ['noto <lora:peft>', 'noto'] }), {
    name: 'RangeError',
    message: /the same LoRAs in all prompts of a call but prompt 2 has others/,
  })
  const negative = await pipe.generate({ ...request, negativePrompt: 'x <lora:peft>' })
  t.match(negative.warnings.join('\n'), /negative prompt has <lora:peft>: these are plain words/)
  await using without = await DiffusionPipeline.load()
  const plain = await without.generate({ ...request, prompt: 'noto <lora:peft:1>' })
  t.match(
    plain.warnings.join('\n'),
    /has <lora:peft:1>: these are plain words, as load\(\) was not given a loraFolder/,
  )
  await using gone = await DiffusionPipeline.load(undefined, { loraFolder: join(root, 'none') })
  await t.rejects(draw(gone, undefined, '<lora:a>'), {
    code: 'MODEL_NOT_FOUND',
    message: /cannot be read as loraFolder/,
  })
})

t.test('names and scales in prompts', (t) => {
  for (const [text, lora] of [
    ['<lora:a>', { name: 'a', scale: 1 }],
    ['<LoRA: a b :-0.5>', { name: 'a b', scale: -0.5 }],
    ['<lora:a:0.5:0.7>', { name: 'a', scale: 0.7, textEncoderScale: 0.5 }],
    ['<lora:a:te=0.5:unet=0.7>', { name: 'a', scale: 0.7, textEncoderScale: 0.5 }],
    ['<lora:a:unet=0.5>', { name: 'a', scale: 0.5, textEncoderScale: 1 }],
    ['<lora:a:te=0>', { name: 'a', scale: 1, textEncoderScale: 0 }],
  ] as const)
    t.strictSame(takeLoras(`x ${text} y`), { text: 'x  y', loras: [lora] }, text)
  for (const text of ['<lora:>', '<lora>', 'lora:a:1', '<hypernet:a:1>'])
    t.strictSame(takeLoras(text).loras, [], text)
  t.end()
})

t.test('scales of text encoders and blocks', async (t) => {
  const scalesOf = async (setting: object) => {
    const model = await openModel(bundledModelPath())
    await applyLora(model, { path: file('kohya'), scale: 1, ...setting })
    const found = new Map<string, number>()
    for (const { source } of [model.unet!, ...model.textEncoders])
      for (const { name, adapters } of source.tensors) if (adapters) found.set(name, adapters[0].scale)
    return found
  }
  const plain = await scalesOf({})
  const scaled = await scalesOf({
    textEncoderScale: 0.25,
    blockScales: { mid_block: 2, down_blocks: 0.5, 'down_blocks.1': 3 },
  })
  t.ok(plain.size > 70)
  for (const [name, scale] of plain) {
    const factor = name.startsWith('encoder.')
      ? 0.25
      : name.startsWith('mid_block.')
        ? 2
        : name.startsWith('down_blocks.1.')
          ? 3
          : name.startsWith('down_blocks.')
            ? 0.5
            : 1
    t.equal(scaled.get(name), factor * scale, name)
  }
})
