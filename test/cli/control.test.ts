/** `--control`: its grammar, and what it gives to the library. */
import { writeFileSync } from 'node:fs'
import t from 'tap'
import { control } from '../../lib/cli/arguments.js'
import { call, inFolder } from './fake.js'

t.test('the parts of --control', (t) => {
  const nets = { net: 'canny.safetensors', image: 'photo.jpg' }
  for (const [text, wanted] of [
    ['', {}],
    [':0.7', { scale: 0.7 }],
    [':-1', { scale: -1 }],
    [':0-0.5', { start: 0, end: 0.5 }],
    [':canny', { preprocessor: 'canny' }],
    [
      ':0.7:.2-1:scribble:fill:guess',
      { ...{ scale: 0.7, start: 0.2, end: 1 }, preprocessor: 'scribble', fit: 'fill', guess: true },
    ],
    [':type=depth', { type: 'depth' }],
    [':0.5:type=6:canny', { scale: 0.5, type: 6, preprocessor: 'canny' }],
    [':mask=mask.png', { mask: 'mask.png' }],
    [':0.5:mask=C:\\masks\\a b.png:guess', { scale: 0.5, mask: 'C:\\masks\\a b.png', guess: true }],
    [':soft:crop:1', { weights: 'soft', fit: 'crop', scale: 1 }],
  ] as const)
    // prettier-ignore
    t.strictSame(control(`canny.safetensors=photo.jpg${text}`), [{ ...nets, ...wanted }], text)
  t.strictSame(control('hf:a/b=C:\\pictures\\a=b.jpg:2', []), [
    { net: 'hf:a/b', image: 'C:\\pictures\\a=b.jpg', scale: 2 },
  ])
  for (const [text, message] of [
    ['canny.safetensors', /must look like canny\.safetensors=photo\.jpg:0\.7/],
    ['a=', /must look like/],
    ['=b', /must look like/],
    ['a=b:0.5:0.7', /two settings for scale/],
    ['a=b:canny:blur', /two settings for preprocessor/],
    ['a=b:cany', /Did you mean canny\?/],
    ['a=b:wonderful:0.5', /Its settings are numbers, or of canny, scribble/],
    ['a=b:type=dept', /There is no type "dept"\. Did you mean depth\?/],
    ['a=b:type=wonderful', /It is one of openpose, depth, /],
    ['a=b:mask=c.png:mask=d.png', /two settings for mask/],
    ['a=b:type=1:type=depth', /two settings for type/],
    ['a=b:semantic', /Its settings are numbers, or of canny, scribble/],
  ] as const)
    t.throws(() => control(text), { message }, text)
  t.end()
})

t.test('they reach the library, each ControlNet once', async (t) => {
  inFolder(t)
  for (const file of ['canny.safetensors', 'depth.safetensors', 'a.jpg', 'b.jpg']) writeFileSync(file, '')
  const { code, calls } = await call([
    ...['a cat', '-o', 'out.png', '-n', '2', '--control', 'canny.safetensors=a.jpg:0.7:canny'],
    ...['--control', 'depth.safetensors=b.jpg:0-0.5', '--control', 'canny.safetensors=b.jpg'],
  ])
  t.equal(code, 0)
  t.strictSame(calls.load[0][1].controlNets, ['canny.safetensors', 'depth.safetensors'])
  t.equal(calls.generate.length, 2)
  for (const { controls } of calls.generate)
    t.strictSame(controls, [
      { net: 0, image: 'a.jpg', scale: 0.7, preprocessor: 'canny' },
      { net: 1, image: 'b.jpg', start: 0, end: 0.5 },
      { net: 0, image: 'b.jpg' },
    ])
  const { calls: without } = await call(['a cat', '-o', 'out2.png'])
  t.notOk(Object.hasOwn(without.load[0][1], 'controlNets'))
  t.notOk(Object.hasOwn(without.generate[0], 'controls'))
})

t.test('missing files and wrong values are named before a model is loaded', async (t) => {
  inFolder(t)
  writeFileSync('canny.safetensors', '')
  for (const [args, status, message] of [
    [['--control', 'canny.safetensors=canny.safetensors:mask=none.png'], 1, /Cannot read none\.png/],
    [['--control', 'canny.safetensors=none.jpg:0.7'], 1, /Cannot read none\.jpg: there is no such file/],
    [['--control', 'none.safetensors=canny.safetensors'], 1, /Cannot read none\.safetensors/],
    [
      ['--control', 'canny.safetensors'],
      2,
      /'--control <net=image\[:scale\]>' argument 'canny\.safetensors' is invalid/,
    ],
    [['--control-net', 'canny.safetensors'], 2, /A ControlNet is given with its picture: --control canny/],
  ] as const) {
    // prettier-ignore
    const { code, stderr, calls } = await call(['a cat', ...args])
    t.equal(code, status, args.join(' '))
    t.match(stderr, message)
    t.equal(calls.load.length, 0)
  }
})

t.test('messages of the library name the flag', async (t) => {
  inFolder(t)
  for (const file of ['canny.safetensors', 'a.jpg']) writeFileSync(file, '')
  const fail = new RangeError(
    'Expected number between -10 and 10 for controls[0].scale but received 20 of type number',
  )
  const { stderr } = await call(['a cat', '-o', 'a.png', '--control', 'canny.safetensors=a.jpg:20'], { fail })
  t.match(stderr, 'Expected number between -10 and 10 for the scale of --control but received 20\n')
})
