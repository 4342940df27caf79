import t from 'tap'
import { Clock, createProgress, formatSeconds } from '../../lib/cli/progress.js'
import { call, inFolder } from './fake.js'
import { PassThrough } from 'node:stream'

t.test('help and version', async (t) => {
  for (const args of [['--help'], ['-h'], ['info', '--help'], ['help', 'info']]) {
    const { code, stdout, stderr } = await call(args)
    t.same([code, stderr], [0, ''], args.join(' '))
    t.match(stdout, /^Usage: node-diffusion/)
  }
  const { stdout } = await call(['--help'])
  t.match(
    stdout,
    /--steps <n>[^]*info[^]*schedulers[^]*Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted/,
  )
  for (const command of [[], ['info'], ['quantize'], ['merge'], ['schedulers']]) {
    const { stdout } = await call([...command, '--help'])
    for (const line of stdout.split('\n')) t.ok(line.length <= 80, `fits 80 columns: ${line}`)
  }
  t.same(await call(['--version']).then(({ code, stdout }) => [code, stdout]), [0, '1.2.3\n'])
})

t.test('schedulers', async (t) => {
  t.equal((await call(['schedulers'])).stdout, 'ddim\neuler\n')
  t.equal((await call(['schedulers', '--json'])).stdout, '["ddim","euler"]\n')
})

t.test('models on the Hub', async (t) => {
  inFolder(t)
  for (const model of ['hf:owner/name', 'sd15']) {
    const { calls, stderr } = await call(['a cat', '-m', model, '-q'])
    t.same(calls.pull, [[model, undefined]])
    t.equal(calls.load[0][0], '/cache/model')
    t.equal(stderr, '')
  }
  const parts = await call([
    'a cat',
    '--tiny-vae',
    'hf:a/tiny',
    '--decoder',
    'tiny',
    '--lora',
    'hf:a/b:c.safetensors:0.5',
    '-q',
  ])
  t.same(parts.calls.pull, [
    ['hf:a/tiny', undefined],
    ['hf:a/b:c.safetensors', undefined],
  ])
  t.match(parts.calls.load[0][1], { tinyVae: '/cache/model', loras: [{ path: '/cache/model', scale: 0.5 }] })
  const told = await call(['quantize', 'hf:owner/name', 'x.gguf', '-t', 'q8_0'])
  t.equal(told.calls.quantize[0][0], '/cache/model')
  t.match(told.stderr, /^owner\/name: licence mit, 4\.0 MiB to download\n/)
  const { calls } = await call(['info', 'sd15.gguf'])
  t.same(calls.pull, [], 'other names are paths')
  const pulled = await call(['pull', 'owner/name', '--variant', 'ema', '--json'])
  t.same(
    [pulled.calls.pull, pulled.stdout, pulled.stderr],
    [[['owner/name', 'ema']], '{"path":"/cache/model"}\n', ''],
  )
  t.equal(
    (await call(['ls'])).stdout,
    `Downloaded:\n  hf:a/b     3.0 MiB\n  hf:a/b@v1  1 KiB\n\nWell-known:\n  sd15  Stable Diffusion 1.5 (x/sd15)\n`,
  )
})

t.test('info', async (t) => {
  const { stdout, code, calls } = await call(['info', 'sd.gguf'])
  t.equal(code, 0)
  t.equal(calls.load.length, 0, 'reads the headers only')
  t.match(
    stdout,
    /^model +sd\.gguf\narchitecture +Stable Diffusion 1\.x\nformat +gguf\nimage size +512×512\n/,
  )
  t.match(stdout, /unet +2\.0 million parameters, 2\.0 MiB, q8_0 ×1, f32 ×1\n/)
  t.notMatch(stdout, /tokenizer/, 'no tokenizer without a text encoder')
  const sized = await call(['info', 'sd.gguf', '--size', '512'])
  t.match(sized.stdout, /memory for 512×512 +1\.5 GiB\n +weights +1\.0 GiB\n/)
  t.match(
    sized.stdout,
    /time for 512×512 +about 4:05\n +text encoder +0\.25 s\n +each step +1\.3 s\n +autoencoder +4 s\n/,
  )
  t.equal(sized.calls.load.length, 0, 'nothing is loaded')
  const flags = ['--size', '512x256', '--batch', '2', '--steps', '4', '--cfg', '1', '--low-memory']
  const asked = (await call(['info', 'sd.gguf', ...flags])).calls.estimate[0]
  t.match(asked, [
    'sd.gguf',
    { lowMemory: true },
    { width: 512, height: 256, batchSize: 2, steps: 4, guidanceScale: 1 },
  ])
  const onGpu = await call(['info', 'sd.gguf', '--size', '512', '--device', 'cuda'])
  t.match(onGpu.calls.estimate[0][1], { device: 'cuda' })
  t.equal(onGpu.calls.load.length, 0)
  t.match(onGpu.stdout, /memory for 512×512/)
  t.notMatch(onGpu.stdout, /time for/)
  const anywhere = await call(['info', 'sd.gguf', '--size', '512', '--device', 'auto'])
  t.match(anywhere.calls.load[0][1], { device: 'auto' })
  t.equal(anywhere.calls.disposed, 1)
  const json = await call(['info', 'sd.gguf', '--size', '512', '--json'])
  t.match(JSON.parse(json.stdout), {
    path: 'sd.gguf',
    components: [{ name: 'unet', parameters: 2_001_000, config: { inChannels: 4 } }],
    memory: { total: 1.5 * 1024 ** 3 },
    seconds: { step: 1.26, total: 245 },
  })
  const devices = await call(['info'])
  t.equal(
    devices.stdout,
    'cpu     A CPU, 4 threads, kernels ref\ncuda:0  A GPU, 8.0 GiB, compute capability 8.9\n',
  )
  t.match(JSON.parse((await call(['info', '--json'])).stdout), {
    devices: [{ device: 'cpu' }, { device: 'cuda:0', computeCapability: '8.9' }],
  })
  t.match(
    (await call(['info', '--device', 'cuda:0'])).stdout,
    /^cuda:0 {2}A GPU, 8\.0 GiB, compute capability 8\.9, times of products measured on this GPU, Hopper's kernels off: they are slower, overlap of kernels off: no faster$/m,
  )
  t.match(await call(['info', '--size', '64']), { code: 2, stderr: /--size needs a model/ })
  for (const [flags, message] of [
    [['--batch', '2'], /--batch needs --size/],
    [['--low-memory'], /--low-memory needs --size/],
    [['--steps', '2'], /--steps needs --size/],
    [['--cfg', '1'], /--cfg needs --size/],
  ] as const) {
    const { code, stderr } = await call(['info', 'sd.gguf', ...flags])
    t.equal(code, 2)
    t.match(stderr, message)
  }
})

t.test('remaining time', (t) => {
  let now = 0
  const clock = new Clock(() => now)
  t.equal(clock.left(), undefined)
  now = 2000
  clock.done(1, 4)
  t.equal(clock.left(), 6)
  now = 3000
  t.equal(clock.left(), 5, 'counts down during a step')
  now = 99000
  t.equal(clock.left(), 0, 'never negative')
  clock.start()
  t.equal(clock.left(), undefined)
  t.same([0.2, 45, 99, 100, 185, 3723].map(formatSeconds), ['1 s', '45 s', '99 s', '1:40', '3:05', '1:02:03'])
  t.end()
})

t.test('a log has a line for each tenth of the steps', async (t) => {
  const stream = new PassThrough()
  const progress = await createProgress(stream)
  progress.phase('Loading')
  for (let i = 1; i <= 50; i++) progress.step(i, 50)
  progress.stop()
  const lines = String(stream.read()).trim().split('\n')
  t.equal(lines.length, 11)
  t.equal(lines[0], 'Loading')
  t.match(lines[1], /^step 5\/50, \d+ s left$/)
  t.equal(lines[10], 'step 50/50')
})
