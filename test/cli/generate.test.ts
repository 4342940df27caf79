import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { DiffusionError } from '../../lib/errors.js'
import { readPngTexts } from '../../lib/image/png.js'
import { call, inFolder } from './fake.js'

t.test('every option reaches the library', async (t) => {
  const dir = inFolder(t)
  for (const name of ['i.png', 'm.png']) writeFileSync(name, '')
  const { code, calls } = await call([
    ...[
      'a cat',
      '-m',
      'sd.gguf',
      '-o',
      'out.png',
      '--negative',
      'ugly',
      '--size',
      '512x768',
      '--steps',
      '12',
    ],
    ...['--scheduler', 'euler', '--seed', '7', '--rng', 'philox', '--cfg', '5.5', '--guidance-rescale', '.7'],
    ...['--clip-skip', '1', '--no-weighting', '--init', 'i.png', '--mask', 'm.png', '--strength', '0.4'],
    ...['--guidance-interval', '0.1-.8', '--deep-cache', '4:2', '--token-merging', '0.5'],
    ...['--threads', '2', '--batch', '2', '-q'],
  ])
  t.equal(code, 0)
  t.match(calls.load, [['sd.gguf', { threads: 2 }]])
  t.match(calls.generate, [
    {
      prompt: 'a cat', negativePrompt: 'ugly', width: 512, height: 768, steps: 12, scheduler: 'euler', seed: 7, rng: 'philox',
      guidanceScale: 5.5, guidanceRescale: 0.7, clipSkip: 1, weighting: false, image: 'i.png', mask: 'm.png', strength: 0.4,
      batchSize: 2, guidanceInterval: [0.1, 0.8], deepCache: { interval: 4, depth: 2 }, tokenMerging: 0.5,
    },
  ]) // prettier-ignore
  t.equal(calls.disposed, 1)
  t.same(readdirSync(dir).sort(), ['i.png', 'm.png', 'out-1.png', 'out-2.png'])
})

t.test('syntax of the acceleration flags', async (t) => {
  inFolder(t)
  const { calls } = await call(['x', '--deep-cache', '3', '--guidance-interval', '.2,1'])
  t.match(calls.generate, [{ deepCache: { interval: 3 }, guidanceInterval: [0.2, 1] }])
  t.notOk('depth' in (calls.generate[0].deepCache as object))
  for (const [flag, text, message] of [
    ['--deep-cache', 'x', /whole number/],
    ['--deep-cache', '3:', /whole number/],
    ['--deep-cache', '3:1:1', /look like 3 or 3:2/],
    ['--guidance-interval', '0.5', /look like 0\.2-0\.8/],
    ['--guidance-interval', '0.1.2-1', /a number/],
    ['--token-merging', 'half', /a number/],
  ] as const) {
    const { code, stderr } = await call(['x', flag, text])
    t.equal(code, 2, `${flag} ${text}`)
    t.match(stderr, message)
  }
})

t.test('options that are not given are left to the library', async (t) => {
  inFolder(t)
  const { calls } = await call(['x'])
  t.equal(calls.load[0][0], undefined)
  const { onStep, signal, weighting, batchSize, prompt, ...rest } = calls.generate[0]
  t.same(new Set(Object.values(rest)), new Set([undefined]))
  t.same(
    [typeof onStep, signal instanceof AbortSignal, weighting, batchSize, prompt],
    ['function', true, true, 1, 'x'],
  )
})

t.test('file names are made from prompt and seed, and never replace another file', async (t) => {
  const dir = inFolder(t)
  const first = await call(['A (red:1.2) cat, on Mars!', '--seed', '5'])
  t.equal(first.stdout, 'a-red-1-2-cat-on-mars-5.png\n')
  t.match(
    first.stderr,
    /^Loading the model\nEncoding the prompt\nstep 1\/3, .* left\n[^]*step 3\/3\nDecoding the image\nseed 5, \d+\.\d s\n$/,
  )
  t.equal(
    (await call(['A (red:1.2) cat, on Mars!', '--seed', '5'])).stdout,
    'a-red-1-2-cat-on-mars-5-2.png\n',
  )
  t.equal(
    (await call(['kırmızı 猫/../x', '--seed', '5', '--format', 'webp'])).stdout,
    'kırmızı-猫-x-5.webp\n',
  )
  t.equal((await call(['', '--seed', '5'])).stdout, 'image-5.png\n')
  const long = (await call(['word '.repeat(200) + 'é'.repeat(300)])).stdout
  t.ok(long.length < 80, long)
  mkdirSync('folder')
  t.equal((await call(['x', '-o', 'folder', '--seed', '1'])).stdout, `${join('folder', 'x-1.png')}\n`)
  t.equal((await call(['x', '-o', 'folder/', '--seed', '1'])).stdout, `${join('folder', 'x-1-2.png')}\n`)
  writeFileSync('given.jpg', 'old')
  t.equal((await call(['x', '-o', 'given.jpg'])).stdout, 'given.jpg\n')
  t.equal(
    (await sharp(readFileSync('given.jpg')).metadata()).format,
    'jpeg',
    'a file that was named is replaced',
  )
  t.notOk(readdirSync(dir).some((name) => name.endsWith('.tmp')))
})

t.test('metadata', async (t) => {
  inFolder(t)
  await call(['café', '-o', 'a.png', '--seed', '9'])
  t.match(readPngTexts(readFileSync('a.png')).get('parameters'), /^café\nSteps: 3, Seed: 9/)
  await call(['café', '-o', 'b.png', '--no-metadata'])
  t.equal(readPngTexts(readFileSync('b.png')).size, 0)
})

t.test('--eta without --scheduler selects ddim', async (t) => {
  inFolder(t)
  const request = async (...args: string[]) => (await call(['x', ...args])).calls.generate[0]
  t.match(await request('--eta', '0.5'), { scheduler: 'ddim', schedulerOptions: { eta: 0.5 } })
  const named = await request('--eta', '0', '--scheduler', 'euler')
  t.match(named, { scheduler: 'euler', schedulerOptions: { eta: 0 } })
  const { scheduler, schedulerOptions } = await request()
  t.same([scheduler, schedulerOptions], [undefined, undefined])
})

t.test('--device', async (t) => {
  inFolder(t)
  t.equal((await call(['x', '--device', 'cuda:1'])).calls.load[0][1].device, 'cuda:1')
  t.equal((await call(['x'])).calls.load[0][1].device, undefined)
  const { code, stderr } = await call(['x', '--device', 'gpu'])
  t.equal(code, 2)
  t.match(stderr, /It must be auto, cpu, cuda or cuda:<n>/)
})

t.test('--precision', async (t) => {
  inFolder(t)
  t.equal((await call(['x', '--precision', 'int8'])).calls.load[0][1].precision, 'int8')
  t.equal((await call(['x'])).calls.load[0][1].precision, undefined)
  const { code, stderr } = await call(['x', '--precision', 'f16'])
  t.equal(code, 2)
  t.match(stderr, /Allowed choices are auto, f32, bf16, int8/)
})

t.test('--tiny-vae and --decoder', async (t) => {
  inFolder(t)
  writeFileSync('taesd.safetensors', '')
  const tiny = ['x', '-o', 'a.png', '--tiny-vae', 'taesd.safetensors']
  const { code, calls } = await call([...tiny, '--decoder', 'tiny'])
  t.equal(code, 0)
  t.equal(calls.load[0][1].tinyVae, 'taesd.safetensors')
  t.equal(calls.generate[0].decoder, 'tiny')
  t.equal((await call([...tiny, '--decoder', 'full', '--preview'])).calls.generate[0].decoder, 'full')
  const { width, height } = await sharp(readFileSync('preview.png')).metadata()
  t.same([width, height], [4, 4], 'previews by the tiny autoencoder are not enlarged')
  for (const [args, message] of [
    [['x', '--decoder', 'tiny'], /--decoder tiny needs --tiny-vae/],
    [tiny, /--tiny-vae needs --preview or --decoder tiny/],
    [[...tiny, '--decoder', 'full'], /--tiny-vae needs --preview or --decoder tiny/],
    [[...tiny, '--decoder', 'small'], /Allowed choices are full, tiny/],
  ] as const) {
    const { code, stderr, calls } = await call([...args])
    t.equal(code, 2, args.join(' '))
    t.match(stderr, message)
    t.equal(calls.load.length, 0)
  }
  const missing = await call(['x', '--tiny-vae', 'none', '--preview'])
  t.same([missing.code, missing.calls.load.length], [1, 0])
  t.equal(missing.stderr, 'error: Cannot read none: there is no such file\n')
})

t.test('LoRA files and their scales', async (t) => {
  inFolder(t)
  for (const file of ['a.safetensors', 'b:1.safetensors']) writeFileSync(file, '')
  const args = ['a cat', '-o', 'a.png', '--lora', 'a.safetensors', '--lora', 'a.safetensors:-0.5']
  const { calls } = await call([...args, '--lora', 'b:1.safetensors'])
  t.strictSame(calls.load[0][1].loras, [
    { path: 'a.safetensors', scale: 1 },
    { path: 'a.safetensors', scale: -0.5 },
    { path: 'b:1.safetensors', scale: 1 },
  ])
  const { code, stderr, calls: none } = await call(['a cat', '--lora', 'none.safetensors:0.8'])
  t.match([code, stderr], [1, /none\.safetensors: there is no such file/])
  t.equal(none.load.length, 0, 'a file that is missing is named before the model is loaded')
})

t.test('--embedding takes a file, and a token behind an equals sign', async (t) => {
  const folder = inFolder(t)
  for (const name of ['a.pt', 'b=c.pt']) writeFileSync(join(folder, name), '')
  const args = ['a cat', '-o', 'a.png', '--embedding', 'a.pt', '--embedding', 'a.pt=<cat-toy>']
  const { calls } = await call([...args, '--embedding', './b=c.pt=x', '--embedding', `${folder}/b=c.pt=y`])
  t.strictSame(calls.load[0][1].embeddings, [
    { path: 'a.pt' },
    { path: 'a.pt', token: '<cat-toy>' },
    { path: './b=c.pt', token: 'x' },
    { path: `${folder}/b=c.pt`, token: 'y' },
  ])
  t.match(
    (await call(['a cat', '--embedding', 'none.pt=x'])).stderr,
    /Cannot read none\.pt: there is no such file/,
  )
})

t.test('--ip-adapter, --image-encoder and --image-prompt', async (t) => {
  const folder = inFolder(t)
  for (const name of ['a.bin', 'b.bin', 'encoder', 'photo.jpg', 'other:1.png'])
    writeFileSync(join(folder, name), '')
  const adapter = ['x', '--ip-adapter', 'a.bin']
  const one = await call([...adapter, '--image-prompt', 'photo.jpg:0.6', '--image-prompt', 'other:1.png'])
  t.strictSame(one.calls.load[0][1].ipAdapters, [{ path: 'a.bin', imageEncoder: undefined }])
  t.strictSame(one.calls.generate[0].imagePrompts, [
    { image: 'photo.jpg', scale: 0.6, adapter: 0 },
    { image: 'other:1.png', scale: 1, adapter: 0 },
  ])
  const both = [
    ...adapter,
    '--ip-adapter',
    'b.bin',
    '--image-encoder',
    'encoder',
    '--image-prompt',
    'photo.jpg',
  ]
  const two = await call([...both, '--image-prompt', 'photo.jpg:-1'])
  t.match(two.calls.load[0][1].ipAdapters, [{ imageEncoder: 'encoder' }, { imageEncoder: 'encoder' }])
  t.match(two.calls.generate[0].imagePrompts, [{ adapter: 0 }, { adapter: 1, scale: -1 }])
  for (const [args, message] of [
    [['x', '--image-prompt', 'photo.jpg'], /--image-prompt needs --ip-adapter/],
    [adapter, /--ip-adapter needs --image-prompt/],
    [['x', '--image-encoder', 'encoder'], /--image-encoder needs --ip-adapter/],
    [both, /one --ip-adapter for all or one for each of 1 --image-prompt, found 2/],
  ] as const) {
    const { code, stderr } = await call([...args])
    t.match([code, stderr], [2, message])
  }
  t.match(
    (await call([...adapter, '--image-prompt', 'none.jpg:0.5'])).stderr,
    /Cannot read none\.jpg: there is no such file/,
  )
})

t.test('--refiner and --refiner-start', async (t) => {
  const folder = inFolder(t)
  writeFileSync(join(folder, 'refiner.safetensors'), '')
  const { calls } = await call(['x', '--refiner', 'refiner.safetensors', '--refiner-start', '0.7'])
  t.equal(calls.load[0][1].refiner, 'refiner.safetensors')
  t.equal(calls.generate[0].refinerStart, 0.7)
  const { code, stderr } = await call(['x', '--refiner-start', '0.7'])
  t.match([code, stderr], [2, /--refiner-start needs --refiner/])
  t.match((await call(['x', '--refiner', 'none'])).stderr, /Cannot read none: there is no such file/)
})

t.test('--low-memory', async (t) => {
  inFolder(t)
  t.equal((await call(['x', '--low-memory'])).calls.load[0][1].lowMemory, true)
  t.equal((await call(['x'])).calls.load[0][1].lowMemory, undefined)
})

t.test('each of several images has the next seed', async (t) => {
  const dir = inFolder(t)
  const { calls, stdout, stderr } = await call(['x', '-n', '5', '-b', '2', '--seed', '10'])
  t.same(
    calls.generate.map((g) => [g.batchSize, g.seed]),
    [
      [2, 10],
      [2, 12],
      [1, 14],
    ],
  )
  t.equal(calls.load.length, 1)
  t.same(
    stdout.trim().split('\n'),
    [10, 11, 12, 13, 14].map((seed) => `x-${seed}.png`),
  )
  t.match(stderr, /Images 1–2 of 5 step 3\/3\n[^]*Image 5 of 5 step 3\/3\n[^]*seeds 10 to 14, /)
  t.equal(readdirSync(dir).length, 5)
  const random = await call(['y', '-n', '2'])
  t.same(
    random.calls.generate.map((g) => g.seed),
    [undefined, 1001],
    'continues after the random seed',
  )
  const large = await call(['z', '-n', '2', '--seed', '18446744073709551615'])
  t.same(
    large.calls.generate.map((g) => g.seed),
    [18446744073709551615n, 0],
  )
})

t.test('--json prints one line', async (t) => {
  inFolder(t)
  const { stdout, stderr, code } = await call(['x', '--json', '--seed', '3', '-n', '2'], {
    warnings: ['odd'],
  })
  t.equal(code, 0)
  t.equal(stderr, '')
  t.equal(stdout.split('\n').length, 2)
  const report = JSON.parse(stdout) as { timings: Record<string, number> }
  t.match(report, { files: ['x-3.png', 'x-4.png'], seed: 3, seeds: [3, 4], warnings: ['odd'] })
  t.same(Object.keys(report.timings), ['loadMs', 'textMs', 'startMs', 'denoiseMs', 'decodeMs', 'totalMs'])
  t.ok(Object.values(report.timings).every(Number.isInteger))
  const large = await call(['x', '--json', '--seed', '18446744073709551614'])
  t.match(JSON.parse(large.stdout), { seed: '18446744073709551614' })
})

t.test('--quiet suppresses warnings', async (t) => {
  inFolder(t)
  const quiet = await call(['x', '-q'], { warnings: ['odd'] })
  t.same([quiet.code, quiet.stdout, quiet.stderr], [0, '', ''])
  t.match((await call(['x'], { warnings: ['odd'] })).stderr, /^warning: odd$/m)
})

t.test('-o - writes the image to standard output and nothing else', async (t) => {
  const dir = inFolder(t)
  const png = await call(['x', '-o', '-'])
  t.equal((await sharp(png.bytes).metadata()).format, 'png')
  const webp = await call(['x', '-o', '-', '--format', 'webp'])
  t.equal((await sharp(webp.bytes).metadata()).format, 'webp')
  t.same(readdirSync(dir), [])
  for (const [args, options, message] of [
    [['--json'], {}, /standard output/],
    [['-n', '2'], {}, /one image/],
    [['-b', '2'], {}, /one image/],
    [[], { stdoutTTY: true }, /terminal/],
  ] as const) {
    const { code, stderr, calls } = await call(['x', '-o', '-', ...args], options)
    t.equal(code, 2)
    t.match(stderr, message)
    t.equal(calls.load.length, 0)
  }
})

t.test('a prompt from standard input', async (t) => {
  inFolder(t)
  t.equal((await call(['-', '-q'], { stdin: ' a cat\n' })).calls.generate[0].prompt, 'a cat')
  const empty = await call(['-'], { stdin: '\n' })
  t.equal(empty.code, 2)
  t.match(empty.stderr, /^error: standard input is empty/)
})

t.test('--preview', async (t) => {
  inFolder(t)
  await call(['x', '-o', 'a.png', '--preview', '-q'])
  const { width, height } = await sharp(readFileSync('preview.png')).metadata()
  t.same([width, height], [32, 32])
  await call(['x', '-o', 'a.png', '--preview', 'p.jpg', '-q'])
  t.equal((await sharp(readFileSync('p.jpg')).metadata()).format, 'jpeg')
  const unwritable = await call(['x', '--preview', 'none/p.png'], { stepMs: 20 })
  t.equal(unwritable.code, 1)
  t.match(unwritable.stderr, /error: Cannot write none\/p\.png: there is no folder none/)
})

t.test('wrong usage ends with status 2 before anything is loaded', async (t) => {
  inFolder(t)
  for (const [args, message] of [
    [[], /missing required argument 'prompt'/],
    [['a', 'cat'], /too many arguments/],
    [['x', '--stesp', '5'], /unknown option '--stesp'[^]*Did you mean --steps\?/],
    [['x', '--steps', 'many'], /'--steps <n>' argument 'many' is invalid. It must be a whole number/],
    [['x', '--steps', '1.5'], /whole number/],
    [['x', '--cfg', 'x'], /must be a number/],
    [['x', '--size', '512x'], /512x768/],
    [['x', '--size', 'axb'], /512x768/],
    [['x', '--seed', '-1'], /0 or more/],
    [['x', '-n', '0'], /1 or more/],
    [['x', '--rng', 'dice'], /Allowed choices are torch, philox/],
    [['x', '--format', 'gif'], /Allowed choices are png, jpeg, webp/],
    [['x', '-o', 'a.gif'], /\.png, \.jpg, \.jpeg, \.webp but received a\.gif/],
    [['x', '--mask', 'm.png'], /--mask needs --init/],
    [['x', '--scheduler', 'eulre'], /no scheduler eulre; did you mean euler\?/],
    [['x', '--scheduler', 'zzzzzz'], /see: node-diffusion schedulers/],
    [['x', '--steps', '0'], /1 or more/],
    [['x', '--preview', 'p.gif'], /\.webp but received p\.gif/],
    [['x', '--strength', '1'], /--strength needs --init/],
    [['x', '--model'], /argument missing/],
  ] as [string[], RegExp][]) {
    const { code, stderr, stdout, calls } = await call(args)
    t.equal(code, 2, args.join(' '))
    t.match(stderr, message)
    t.match(stderr, /^error: /)
    t.equal(stdout, '')
    t.equal(calls.load.length, 0)
  }
})

t.test('errors of the library', async (t) => {
  const dir = inFolder(t)
  const bound = await call(['x'], {
    fail: new RangeError('Expected integer between 1 and 1000 for steps but received 0 of type number'),
  })
  t.equal(bound.code, 2)
  t.match(bound.stderr, /^error: Expected integer between 1 and 1000 for --steps but received 0\n$/m)
  const missing = await call(['x'], { failLoad: new DiffusionError('MODEL_NOT_FOUND', 'There is no model') })
  t.equal(missing.code, 1)
  t.match(missing.stderr, /error: There is no model\n$/)
  t.notMatch(missing.stderr, /\n {4}at /)
  const bug = await call(['x', '--verbose'], {
    fail: new TypeError('x is undefined', { cause: new Error('deeper') }),
  })
  t.equal(bug.code, 1)
  t.match(bug.stderr, /error: TypeError: x is undefined\n {4}at [^]*caused by: Error: deeper/)
  t.equal(bug.calls.disposed, 1)
  t.same(readdirSync(dir), [])
})

t.test('files and folders are checked before the model is loaded', async (t) => {
  inFolder(t)
  const missing = await call(['x', '--init', 'none.png'])
  t.same([missing.code, missing.calls.load.length], [1, 0])
  t.equal(missing.stderr, 'error: Cannot read none.png: there is no such file\n')
  const { code, stderr, calls } = await call(['x', '-o', 'none/a.png'])
  t.equal(code, 1)
  t.match(stderr, /^error: Cannot write none\/a\.png: there is no folder none\n$/)
  t.equal(calls.load.length, 0)
})

t.test('an interrupt ends with status 130 and leaves no file', async (t) => {
  const dir = inFolder(t)
  for (const after of [0, 30]) {
    const abort = new AbortController()
    const running = call(['x', '-o', 'a.png'], { stepMs: 20, steps: 100, signal: abort.signal })
    setTimeout(() => abort.abort(), after)
    const { code, stderr, calls } = await running
    t.equal(code, 130)
    t.match(stderr, /Interrupted\n$/)
    t.equal(calls.disposed, calls.load.length)
  }
  const abort = new AbortController()
  const reading = call(['-'], { signal: abort.signal })
  setTimeout(() => abort.abort(), 10)
  t.equal((await reading).code, 130, 'while waiting for a prompt')
  t.same(readdirSync(dir), [])
  t.notOk(existsSync('a.png'))
})
