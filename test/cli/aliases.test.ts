/** Options as other programs spell them, prompts without quotes, and the library's messages in the program's words. */
import t, { type Test } from 'tap'
import { inFlags } from '../../lib/cli/wording.js'
import { schedulerName } from '../../lib/cli/scheduler-name.js'
import { schedulerNames } from '../../lib/schedulers/index.js'
import { call, inFolder } from './fake.js'

t.test('the spellings of other programs', async (t) => {
  inFolder(t)
  const { code, stderr, calls } = await call([
    ...['-p', 'a cat', '--negative-prompt', 'ugly', '-W', '512', '--height=768', '--cfg-scale', '5'],
    ...['--sampling-method', 'euler_a', '--num-inference-steps', '12', '--batch-count', '4', '--batch-size', '2'],
  ], { schedulers: ['euler', 'euler-a'] }) // prettier-ignore
  t.equal(code, 0, stderr)
  t.match(calls.generate[0], {
    ...{ prompt: 'a cat', negativePrompt: 'ugly', width: 512, height: 768, guidanceScale: 5, steps: 12 },
    ...{ scheduler: 'euler-a', batchSize: 2 },
  })
  t.equal(calls.generate.length, 2)
  t.equal((await call(['x', '--width', '512'])).calls.generate[0].height, undefined)
  const help = (await call(['--help'])).stdout
  t.notMatch(help, /--cfg-scale|--sampler|-W, /, 'the help has one spelling of each')
})

t.test('options that do not exist', async (t) => {
  for (const [args, message] of [
    [
      ['x', '--lora-model-dir', 'a'],
      /\(LoRA files are named one by one: --lora style\.safetensors:0\.8\.\)\n$/,
    ],
    [['x', '--type', 'q8_0'], /\(To change the type of the weights, see: node-diffusion help quantize\.\)/],
    [['x', '--guidance_scale=3'], /unknown option '--guidance_scale=3'\n\(Did you mean --guidance-scale\?\)/],
    [['x', '--sampelr', 'euler'], /\(Did you mean --sampler\?\)/],
    [['info', 'm.gguf', '--bathc', '2'], /\(Did you mean --batch\?\)/],
    [['x', '--constructor'], /unknown option '--constructor'\n$/],
    [['x', `--${'y'.repeat(1e6)}`], /^.{0,450}\n$/s],
    [['x', '--size', '64', '-W', '64'], /'-W, --width <n>' cannot be used with option '-s, --size <WxH>'/],
    [['a', 'cat', 'on', 'mars'], /put the prompt in quotes: node-diffusion "a cat on mars"\n$/],
    [['x'.repeat(5000), 'y'.repeat(5000)], /^.{0,200}\n$/s],
    [['--prompt', 'a cat', 'b'], /the prompt was given twice/],
    [['y'.repeat(8193)], /a prompt of at most 8192 characters/],
  ] as [string[], RegExp][]) {
    const { code, stderr, calls } = await call(args)
    t.equal(code, 2, args.join(' ').slice(0, 60))
    t.match(stderr, message)
    t.notMatch(stderr, /--format/, 'no misleading hint')
    t.equal(calls.load.length, 0)
  }
})

t.test('names of sampling methods', (t) => {
  for (const [spelling, name] of Object.entries({
    dpmpp_2m: 'dpm++-2m',
    'DPM++ 2M Karras': 'dpm++-2m-karras',
    'dpm++2m': 'dpm++-2m',
    dpmpp_2s_ancestral: 'dpm++-2s-a',
    dpmpp_2m_sde_karras: 'dpm++-2m-sde-karras',
    k_euler_a: 'euler-a',
    sample_euler_ancestral: 'euler-a',
    'DPM2 a Karras': 'dpm2-a-karras',
    k_dpm_2: 'dpm2',
    uni_pc: 'unipc',
    DDIM: 'ddim',
    'Euler a': 'euler-a',
    eulr: undefined,
    constructor: undefined,
    '': undefined,
  }))
    t.equal(schedulerName(spelling, schedulerNames), name, spelling)
  for (const name of schedulerNames) t.equal(schedulerName(name, schedulerNames), name)
  t.end()
})

t.test("messages in the program's words", (t) => {
  for (const [message, expected] of [
    [
      'Expected integer between 1 and 1000 for steps but received 0 of type number',
      'Expected integer between 1 and 1000 for --steps but received 0',
    ],
    [
      'Expected multiple of 8 for width but received 513 of type number',
      'Expected multiple of 8 for the width but received 513',
    ],
    [
      'Expected integer between 1 and 5 for deepCache.interval but received 9 of type number',
      'Expected integer between 1 and 5 for --deep-cache but received 9',
    ],
    [
      'negativePrompt has no effect without guidance (guidanceScale above 1)',
      '--negative has no effect without guidance (--cfg above 1)',
    ],
    ['Expected image, as mask was given', 'Expected --init, as --mask was given'],
    [
      'Scheduler option eta has no effect on euler, which takes spacing, sigmas',
      '--eta has no effect on euler',
    ],
    [
      "Expected 6 channels for extraChannels, as this model's UNet takes 10 channels, but received 0",
      'This model takes 6 channels besides the latents, which only the library can give (extraChannels)',
    ],
    ['Expected image, as this model edits one', 'Expected --init, as this model edits one'],
    [
      'Expected no mask, as this model edits the whole image',
      'Expected no --mask, as this model edits the whole image',
    ],
    [
      'strength has no effect on a model that edits images',
      '--strength has no effect on a model that edits images',
    ],
    [
      'imageGuidanceScale has no effect on a model that does not edit images',
      '--image-cfg has no effect on a model that does not edit images',
    ],
    ...[
      'Cannot read /tmp/lowMemory/batchSize.png: there is no such file',
      'models/guidanceScale/a.gguf: tensor tokenMerging.weight is missing',
      'Cannot write steps for image.png: no space',
    ].map((path) => [path, path]),
  ])
    // prettier-ignore
    t.equal(inFlags(message), expected)
  t.end()
})

t.test('a warning about threads comes before the work', async (t: Test) => {
  inFolder(t)
  const { stderr } = await call(['x', '--threads', '16'])
  t.match(stderr, /^warning: --threads 16 is slower than --threads 2, as 2 cores are available\nLoading/)
  t.notMatch((await call(['x', '--threads', '2'])).stderr, /warning/)
  t.equal((await call(['x', '--threads', '3', '-q'])).stderr, '')
  const json = await call(['x', '--threads', '3', '--json'])
  t.match(JSON.parse(json.stdout), { warnings: [/--threads 3/] })
})
