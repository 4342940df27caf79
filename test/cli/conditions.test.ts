/** Flags of SDXL, of few-step models and of parts from other files. */
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { presets } from '../../lib/index.js'
import { call, inFolder } from './fake.js'

t.test('they reach the library', async (t) => {
  inFolder(t)
  for (const name of ['u.gguf', 'v.safetensors', 'a.safetensors', 'b.safetensors']) writeFileSync(name, '')
  const { code, calls } = await call([
    ...['a cat', '-o', 'out.png', '-q', '--prompt-2', 'a dog', '--negative-2', 'ugly', '--original-size', '640x480'],
    ...['--target-size', '512', '--crop', '3,8', '--preset', 'turbo', '--eta', '0.5', '--prediction', 'v', '--spacing', 'trailing'],
    ...['--zero-snr', '--unet', 'u.gguf', '--vae', 'v.safetensors', '--text-encoder', 'a.safetensors'],
    ...['--text-encoder', 'b.safetensors'],
  ]) // prettier-ignore
  t.equal(code, 0)
  t.match(calls.load[0][1], {
    ...{ unet: 'u.gguf', vae: 'v.safetensors', textEncoders: ['a.safetensors', 'b.safetensors'] },
    ...{ predictionType: 'v_prediction', timestepSpacing: 'trailing', rescaleBetasZeroSnr: true },
  })
  t.match(calls.generate[0], {
    ...{ prompt2: 'a dog', negativePrompt2: 'ugly', originalSize: { width: 640, height: 480 } },
    ...{ targetSize: { width: 512, height: 512 }, cropTopLeft: { top: 3, left: 8 } },
    ...{ preset: 'turbo', scheduler: undefined, schedulerOptions: { eta: 0.5 } },
  })
})

t.test('without them, nothing is passed', async (t) => {
  inFolder(t)
  const { calls } = await call(['a cat', '-o', 'out.png', '-q'])
  for (const key of ['unet', 'vae', 'textEncoders', 'predictionType', 'timestepSpacing'])
    t.notOk(Object.hasOwn(calls.load[0][1], key), key)
})

t.test('wrong values', async (t) => {
  inFolder(t)
  for (const [args, message] of [
    [['--prediction', 'noise'], /must be epsilon, v or sample/],
    [['--spacing', 'even'], /leading, linspace, trailing/],
    [['--crop', '3'], /must look like 0,128/],
    [['--original-size', 'large'], /must look like 512x768/],
    [['--preset', 'turbo2'], /there is no preset turbo2; did you mean turbo\?/],
    [['--preset', 'x'], /see: node-diffusion presets/],
    [['--vae', 'missing.gguf'], /Cannot read missing\.gguf: there is no such file/],
  ] as const) {
    const { code, stderr, calls } = await call(['a cat', ...args])
    t.not(code, 0, args.join(' '))
    t.match(stderr, message)
    t.equal(calls.load.length, 0)
  }
})

t.test('node-diffusion presets', async (t) => {
  const { code, stdout } = await call(['presets'])
  t.equal(code, 0)
  t.equal(stdout, 'turbo  euler-a, steps 1, cfg 0: quick ones\n')
  const { stdout: json } = await call(['presets', '--json'])
  t.match(JSON.parse(json), [{ name: 'turbo', scheduler: 'euler-a', steps: 1 }])
  t.ok(Object.keys(presets).length >= 10)
})
