/** Pictures with ControlNets compared with those of diffusers (tools/fixtures/control.py). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import {
  ControlNet,
  DiffusionPipeline,
  imageToTensor,
  openModel,
  quantizeModel,
  type ControlOptions,
  type GenerateOptions,
  type LoadOptions,
} from '../../lib/index.js'
import { openTensorFile } from '../../lib/models/index.js'
import { renameControlNet } from '../../lib/models/names/control-net.js'
import { endsWhenAborted, equalImages, largestDifference } from '../pipeline/support.js'
import { base, fixtures, nets, root, type Family } from './control-models.js'

interface Case {
  name: string
  family: Family
  options: GenerateOptions & { controls: ControlOptions[] }
  files: string[]
}

const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }

const load = (family: Family, options: LoadOptions = {}) =>
  DiffusionPipeline.load(base[family], { precision: 'f32', controlNets: nets(family), ...options })

function optionsOf({ options }: Case): Case['options'] {
  const given = { ...options, weighting: false }
  for (const key of ['image', 'mask'] as const)
    if (typeof given[key] === 'string') given[key] = join(fixtures, given[key])
  given.controls = given.controls.map((control) => ({
    ...control,
    image: join(fixtures, control.image as string),
    ...(control.mask !== undefined && { mask: join(fixtures, control.mask as string) }),
  }))
  return given
}

const pixels = async (file: string) => sharp(join(fixtures, file)).removeAlpha().raw().toBuffer()
const named = (family: Family, name: string) =>
  cases.find((one) => one.family === family && one.name === name)!

for (const family of ['sd1', 'sd2', 'sdxl'] as const) {
  t.test(`pictures with ControlNets equal those of diffusers: ${family}`, async (t) => {
    await using pipe = await load(family)
    for (const one of cases.filter((one) => one.family === family)) {
      const { images, warnings } = await pipe.generate(optionsOf(one))
      await equalImages(t, images, one, fixtures)
      t.strictSame(
        warnings.filter((text) => !text.includes('far from')),
        [],
        one.name,
      )
    }
  })
}

t.test('every part of a control matters', async (t) => {
  await using pipe = await load('sd1')
  const one = optionsOf(named('sd1', 'text'))
  const [control] = one.controls
  const draw = async (change: Partial<ControlOptions> | undefined) =>
    (await pipe.generate({ ...one, controls: change ? [{ ...control, ...change }] : [] })).images[0].data
  const plain = await draw({})
  const none = await draw(undefined)
  t.ok(largestDifference(plain, none) > 20, 'the picture guides')
  t.strictSame(await draw({ scale: 0 }), none, 'a scale of 0 changes nothing')
  t.strictSame(await draw({ weights: new Array<number>(5).fill(1) }), plain, 'weights of 1 are the default')
  for (const change of [
    { scale: 0.9 },
    { end: 0.5 },
    { start: 0.5 },
    { guess: true },
    { net: 1 },
    { weights: 'soft' as const },
    { image: join(fixtures, 'depth.png') },
  ])
    t.ok(largestDifference(await draw(change), plain) > 0, JSON.stringify(change))
  t.strictSame(await draw({}), plain, 'nothing is left behind')
})

t.test('the mask of an inpaint ControlNet', async (t) => {
  await using pipe = await load('sd1')
  const one = optionsOf(named('sd1', 'inpaint-net-text'))
  const [control] = one.controls
  const draw = async (mask: ControlOptions['mask']) =>
    (await pipe.generate({ ...one, controls: [{ ...control, mask }] })).images[0].data
  const masked = await draw(control.mask)
  const levels = await sharp(control.mask as string)
    .greyscale()
    .raw()
    .toBuffer()
  const data = Float32Array.from(levels, (level) => level / 255)
  t.strictSame(await draw({ data, shape: [1, 1, 64, 64] }), masked, 'a tensor is in 0…1')
  const plain = await draw(undefined)
  t.ok(largestDifference(plain, masked) > 0, 'it matters')
  t.strictSame(await draw({ data: data.fill(0.5), shape: [1, 1, 64, 64] }), plain, 'half is not masked')
  await t.rejects(draw({ data, shape: [1, 1, 32, 128] }), {
    name: 'RangeError',
    message: /Expected shape \[1, 1, 64, 64\] for controls\[0\]\.mask but received \[1, 1, 32, 128\]/,
  })
  await t.rejects(draw(3 as never), { name: 'TypeError', message: /controls\[0\]\.mask/ })
})

t.test('the original names stand for the same tensors', async (t) => {
  const original = join(fixtures, 'sd1-original.safetensors')
  // The tensors do not tell the number of groups or heads: a file of this small model needs its configuration.
  await t.rejects(openModel(original), { code: 'UNSUPPORTED_MODEL', message: /normalization groups/ })
  const { tensors } = await openTensorFile(original)
  const prefix = 'control_model.'
  const stripped = new Map([...tensors].map(([name, tensor]) => [name.slice(prefix.length), tensor]))
  const renamed = renameControlNet([original], stripped)
  const { tensors: known } = await openTensorFile(join(nets('sd1')[0], 'diffusion_pytorch_model.safetensors'))
  const shapes = (list: typeof known) => [...list].map(([name, { shape }]) => `${name} ${shape}`).sort()
  t.strictSame(shapes(renamed), shapes(known))
})

t.test('a GGUF file holds a whole ControlNet', async (t) => {
  const known = (await openModel(nets('sd1')[0])).controlNet!
  const file = join(root, 'control.gguf')
  await quantizeModel(nets('sd1')[0], file, { type: 'f16' })
  const { controlNet, architecture } = await openModel(file)
  t.strictSame(controlNet!.config, known.config)
  t.equal(architecture, 'ControlNet')
  await using pipe = await load('sd1', { controlNets: [file] })
  const one = named('sd1', 'text')
  const { images } = await pipe.generate(optionsOf(one))
  t.ok(largestDifference(images[0].data, await pixels(one.files[0])) <= 2)
})

t.test('quantized models and quantized ControlNets keep the guidance', async (t) => {
  const model = join(root, 'model-q8_0.gguf')
  const net = join(root, 'net-q8_0.gguf')
  await quantizeModel(base.sd1, model, { type: 'q8_0' })
  const { groups } = await quantizeModel(nets('sd1')[0], net, { type: 'q8_0' })
  t.ok(groups.some(({ name }) => name.startsWith('control net')))
  await using pipe = await DiffusionPipeline.load(model, { controlNets: [net] })
  const one = optionsOf(named('sd1', 'text'))
  const { images } = await pipe.generate(one)
  const wanted = await pixels(named('sd1', 'text').files[0])
  const without = (await pipe.generate({ ...one, controls: [] })).images[0].data
  const error = (data: Uint8Array) => data.reduce((sum, x, i) => sum + (x - wanted[i]) ** 2, 0)
  t.ok(error(images[0].data) < error(without) / 4, `${error(images[0].data)} of ${error(without)}`)
})

t.test('deep features and merged tokens go with ControlNets', async (t) => {
  await using pipe = await load('sd1')
  const one = optionsOf(named('sd1', 'two-parts'))
  const whole = (await pipe.generate(one)).images[0].data
  // Residuals of one half of the steps are never reused in the other half: with an interval as long as that, only the
  // first step of each half computes everything.
  const cached = await pipe.generate({ ...one, deepCache: { interval: 1000, depth: 1 } })
  t.ok(largestDifference(cached.images[0].data, whole) > 0)
  const again = await pipe.generate({ ...one, deepCache: { interval: 1000, depth: 1 } })
  t.strictSame(again.images[0].data, cached.images[0].data)
  const exact = await pipe.generate({ ...one, deepCache: { interval: 1, depth: 1 }, tokenMerging: 0 })
  t.strictSame(exact.images[0].data, whole)
  const merged = await pipe.generate({ ...one, tokenMerging: 0.5 })
  t.ok(largestDifference(merged.images[0].data, whole) > 0)
})

t.test('memory of ControlNets is known before a run', async (t) => {
  await using pipe = await load('sd1')
  await using plain = await load('sd1', { controlNets: [] })
  const image = join(fixtures, 'edges.png')
  const size = { width: 64, height: 64 }
  const [without, one, two] = [[], [0], [0, 1]].map((list) =>
    pipe.memoryNeeded({ ...size, controls: list.map((net) => ({ net, image })) }),
  )
  t.equal(without.working, plain.memoryNeeded(size).working)
  t.equal(without.weights, plain.memoryNeeded(size).weights + pipe.controlNets[0].weightBytes * 2)
  t.ok(one.working > without.working)
  t.ok(two.working > one.working)
})

t.test('pictures are fitted to the size of the run', async (t) => {
  await using pipe = await load('sd1')
  const one = { ...optionsOf(named('sd1', 'text')), steps: 2 }
  const draw = async (control: ControlOptions) =>
    (await pipe.generate({ ...one, controls: [control] })).images[0].data
  const image = join(fixtures, 'wide.png')
  const fits = ['resize', 'crop', 'fill'] as const
  const drawn = await Promise.all(fits.map((fit) => draw({ image, fit })))
  for (const [i, fit] of fits.entries())
    for (const j of [...fits.keys()].slice(i + 1))
      t.ok(largestDifference(drawn[i], drawn[j]) > 0, `${fit} is not ${fits[j]}`)
  t.strictSame(await draw({ image }), drawn[1], 'crop is the default')
  const cropped = await sharp(image).resize(64, 64, { fit: 'cover' }).png().toBuffer()
  t.strictSame(await draw({ image: cropped }), drawn[1])
  t.strictSame(await draw({ image: await imageToTensor(cropped) }), drawn[1], 'as a tensor')
})

t.test('wrong options are named', async (t) => {
  await using pipe = await load('sd1', { controlNets: [nets('sd1')[0]] })
  const image = join(fixtures, 'edges.png')
  const rejects = async (controls: unknown, error: typeof TypeError | typeof RangeError, message: RegExp) =>
    t.rejects(async () => pipe.generate({ prompt: '', controls: controls as ControlOptions[] }), {
      name: error.name,
      message,
    })
  await rejects({}, TypeError, /Expected array for controls/)
  await rejects([{}], TypeError, /for controls\[0\]\.image/)
  await rejects([{ image, net: 1 }], RangeError, /Expected integer between 0 and 0 for controls\[0\]\.net/)
  await rejects([{ image, scale: NaN }], RangeError, /controls\[0\]\.scale/)
  await rejects(
    [{ image, start: 0.5, end: 0.5 }],
    RangeError,
    /controls\[0\]\.start below controls\[0\]\.end/,
  )
  await rejects([{ image, weights: [1] }], RangeError, /Expected 5 numbers for controls\[0\]\.weights/)
  await rejects([{ image, weights: 'hard' }], TypeError, /controls\[0\]\.weights/)
  await rejects([{ image, fit: 'cover' }], RangeError, /controls\[0\]\.fit/)
  await rejects([{ image, guess: 1 }], TypeError, /controls\[0\]\.guess/)
  await rejects([{ image, modle: 1 }], TypeError, /Unknown option controls\[0\]\.modle/)
  await rejects(new Array(17).fill({ image }), RangeError, /at most 16/)
  await rejects([{ image: 'missing.png' }], Error, /missing\.png/)
  const small = { data: new Float32Array(3 * 16), shape: [1, 3, 4, 4] }
  await rejects([{ image: small }], RangeError, /Expected shape \[1, 3, \d+, \d+\] for controls\[0\]\.image/)
  await using plain = await load('sd1', { controlNets: [] })
  await t.rejects(async () => plain.generate({ prompt: '', controls: [{ image }] }), {
    name: 'TypeError',
    message: /loaded with controlNets/,
  })
})

t.test('files that are no ControlNet, or one for another model, are refused', async (t) => {
  await t.rejects(load('sdxl', { controlNets: nets('sd1') }), {
    code: 'UNSUPPORTED_MODEL',
    message: /made for another model: expected a context of a width of 40, found 16/,
  })
  await t.rejects(load('sd1', { controlNets: [base.sd1] }), {
    code: 'UNSUPPORTED_MODEL',
    message: /expected a ControlNet, found/,
  })
  await t.rejects(DiffusionPipeline.load(nets('sd1')[0]), {
    code: 'UNSUPPORTED_MODEL',
    message: /ControlNet, which guides a model/,
  })
  await using net = await ControlNet.load(nets('sd1')[0], { precision: 'f32' })
  t.equal(net.residuals, 5)
  t.equal(net.factor, 4)
})

t.test('runs with ControlNets end at once when they are aborted', async (t) => {
  await using pipe = await load('sd1')
  const one = named('sd1', 'two')
  await endsWhenAborted(t, pipe, optionsOf(one), one, fixtures)
})
