/** Preprocessors of ControlNets compared with what OpenCV makes of the same picture (tools/fixtures/preprocess.py). */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import t from 'tap'
import { Image, preprocessImage, type Preprocessor } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

const fixtures = join(packageRoot(), 'test', 'fixtures', 'preprocess')
const photo = join(fixtures, 'photo.png')
const WIDTH = 83
const HEIGHT = 61

const rgb = async (name: string) =>
  sharp(join(fixtures, name)).toColourspace('srgb').removeAlpha().raw().toBuffer()
const shareOfDifferent = (a: Uint8Array, b: Uint8Array) => a.filter((x, i) => x !== b[i]).length / a.length

t.test('canny has the edges of OpenCV, pixel by pixel', async (t) => {
  const files = readdirSync(fixtures).filter((name) => name.startsWith('canny'))
  t.ok(files.length >= 5)
  for (const name of files) {
    const [low, high] = name.replace('.png', '').split('-').slice(1).map(Number)
    const { data } = await preprocessImage(photo, { type: 'canny', low, high })
    const wanted = await rgb(name)
    t.ok(wanted.includes(255) && wanted.includes(0), `${name} has edges`)
    t.equal(shareOfDifferent(data, wanted), 0, name)
  }
  t.strictSame((await preprocessImage(photo, 'canny')).data, new Uint8Array(await rgb('canny-100-200.png')))
})

t.test('grey, invert and threshold are exact', async (t) => {
  for (const [preprocessor, name] of [
    ['invert', 'invert.png'],
    [{ type: 'threshold', threshold: 127 }, 'threshold-127.png'],
    ['threshold', 'threshold-127.png'],
  ] as const)
    t.equal(shareOfDifferent((await preprocessImage(photo, preprocessor)).data, await rgb(name)), 0, name)
  // OpenCV has other rounding than Pillow, whose weights these are.
  const grey = (await preprocessImage(photo, 'grey')).data
  const wanted = await rgb('grey.png')
  t.ok(grey.every((x, i) => Math.abs(x - wanted[i]) <= 1))
})

t.test('scribble has the strokes of OpenCV’s Gaussians', async (t) => {
  for (const threshold of [32, 8]) {
    const { data } = await preprocessImage(photo, { type: 'scribble', threshold })
    const wanted = await rgb(`scribble-${threshold}.png`)
    t.ok(wanted.includes(255) && wanted.includes(0))
    // Sums of floats in another order can fall on the other side of a threshold.
    t.ok(shareOfDifferent(data, wanted) < 0.002, `${threshold}: ${shareOfDifferent(data, wanted)}`)
  }
})

t.test('blur is a Gaussian', async (t) => {
  const { data } = await preprocessImage(photo, { type: 'blur', sigma: 3 })
  const wanted = await rgb('blur-3.png')
  const differences = data.map((x, i) => Math.abs(x - wanted[i]))
  t.ok(Math.max(...differences) <= 6, `at most ${Math.max(...differences)}`)
  t.ok(differences.reduce((sum, x) => sum + x, 0) / data.length < 1)
})

t.test('tile leaves out details and keeps the rest', async (t) => {
  const plain = await rgb('photo.png')
  const { data, width, height } = await preprocessImage(photo, { type: 'tile', factor: 4 })
  t.strictSame([width, height], [WIDTH, HEIGHT])
  const mean = (x: Uint8Array) => x.reduce((sum, one) => sum + one, 0) / x.length
  const roughness = (x: Uint8Array) => mean(x.map((one, i) => Math.abs(one - x[Math.max(i - 3, 0)])))
  t.ok(Math.abs(mean(data) - mean(plain)) < 2)
  t.ok(roughness(data) < roughness(plain) * 0.7, `${roughness(data)} of ${roughness(plain)}`)
  t.strictSame((await preprocessImage(photo, { type: 'tile', factor: 1 })).data, new Uint8Array(plain))
})

t.test('colour has one colour for each square', async (t) => {
  const data = Uint8Array.from({ length: 3 * 16 * 8 }, (_, i) => (i % 48 < 24 ? 200 : 40))
  const made = await preprocessImage(new Image(16, 8, data), { type: 'colour', size: 8 })
  const column = (x: number) => [...made.data.subarray(3 * x, 3 * x + 3)]
  t.strictSame(column(0), column(7))
  t.strictSame(column(8), column(15))
  t.ok(column(0)[0] > 150 && column(15)[0] < 90)
})

t.test('semantic gives each pixel the nearest colour of the palette', async (t) => {
  const palette = [
    [0, 0, 0],
    [120, 120, 120],
    [4, 200, 3],
  ] as const
  const image = new Image(4, 1, new Uint8Array([5, 9, 1, 100, 130, 119, 30, 190, 3, 255, 255, 255]))
  const near = await preprocessImage(image, { type: 'semantic', palette })
  t.strictSame(
    [...near.data],
    [0, 1, 2, 1].flatMap((i) => palette[i]),
  )
  const labels = new Image(4, 1, new Uint8Array([2, 0, 0, 0, 0, 0, 1, 0, 0, 9, 0, 0]))
  const made = await preprocessImage(labels, { type: 'semantic', palette, labels: true })
  t.strictSame(
    [...made.data],
    [2, 0, 1, 2].flatMap((i) => palette[i]),
  )
  const larger = await preprocessImage(
    image,
    { type: 'semantic', palette },
    { size: { width: 13, height: 4 }, fit: 'resize' },
  )
  for (let i = 0; i < larger.data.length; i += 3)
    t.ok(palette.some((colour) => colour.every((level, c) => level === larger.data[i + c])))
})

t.test('fill adds borders in the median colour of the edge', async (t) => {
  // Red, but for a corner and the inside.
  const data = new Uint8Array(3 * 20 * 10)
  for (let i = 0; i < 200; i++) data.set([220, 30, 10], 3 * i)
  for (let y = 3; y < 7; y++) for (let x = 5; x < 15; x++) data.set([0, 0, 255], 3 * (y * 20 + x))
  data.set([255, 255, 255], 0)
  const image = new Image(20, 10, data)
  const made = await preprocessImage(image, 'invert', { size: { width: 20, height: 16 }, fit: 'fill' })
  t.strictSame([made.width, made.height], [20, 16])
  const row = (y: number) => [...made.data.subarray(60 * y, 60 * y + 60)]
  const border = Array.from({ length: 20 }, () => [35, 225, 245]).flat()
  for (const y of [0, 2, 13, 15]) t.strictSame(row(y), border, `row ${y}`)
  t.strictSame(
    row(3),
    [...data.subarray(0, 60)].map((x) => 255 - x),
  )
  const upright = await preprocessImage(image, 'grey', { size: { width: 40, height: 10 }, fit: 'fill' })
  t.strictSame([upright.width, upright.height], [40, 10])
  t.equal(upright.data[0], upright.data[3 * 39])
})

t.test('wrong settings are named', async (t) => {
  const rejects = async (preprocessor: unknown, name: string, message: RegExp) =>
    t.rejects(preprocessImage(photo, preprocessor as Preprocessor), { name, message })
  await rejects('cany', 'RangeError', /for preprocessor .*did you mean canny\?/)
  await rejects(1, 'TypeError', /Expected object for preprocessor/)
  await rejects('semantic', 'TypeError', /\{ type: 'semantic', palette \} for preprocessor/)
  await rejects({ type: 'canny', sigma: 1 }, 'TypeError', /Unknown option preprocessor\.sigma/)
  await rejects({ type: 'canny', low: 300 }, 'RangeError', /preprocessor\.low of at most preprocessor\.high/)
  await rejects({ type: 'canny', high: 3000 }, 'RangeError', /preprocessor\.high/)
  await rejects({ type: 'blur', sigma: 0 }, 'RangeError', /preprocessor\.sigma/)
  await rejects({ type: 'threshold', threshold: 0.5 }, 'RangeError', /preprocessor\.threshold/)
  await rejects({ type: 'tile', factor: 0 }, 'RangeError', /preprocessor\.factor/)
  await rejects({ type: 'colour', size: '8' }, 'TypeError', /preprocessor\.size/)
  await rejects({ type: 'semantic' }, 'TypeError', /preprocessor\.palette/)
  await rejects({ type: 'semantic', palette: [] }, 'RangeError', /1 to 256 colours/)
  await rejects({ type: 'semantic', palette: [[1, 2]] }, 'TypeError', /palette\[0\]/)
  await rejects({ type: 'semantic', palette: [[1, 2, 256]] }, 'RangeError', /palette\[0\]\[2\]/)
  await t.rejects(preprocessImage(photo, 'grey', { fit: 'cover' as 'crop' }), { message: /for fit/ })
  await t.rejects(preprocessImage(photo, 'grey', { size: { width: 0, height: 1 } }), {
    message: /size\.width/,
  })
})

t.test('the event loop has its turns, and an abort ends it', async (t) => {
  const noise = Uint8Array.from({ length: 3 * 900 * 900 }, (_, i) => (i * 2654435761) >>> 24)
  const image = new Image(900, 900, noise)
  for (const type of ['canny', 'scribble', 'threshold', 'colour'] as const) {
    let turns = 0
    let counting = true
    const count = () => {
      turns++
      if (counting) setImmediate(count)
    }
    setImmediate(count)
    await preprocessImage(image, type)
    counting = false
    t.ok(turns >= 3, `${type}: ${turns} turns`)
    const controller = new AbortController()
    setImmediate(() => controller.abort(new Error('enough')))
    await t.rejects(preprocessImage(image, type, { signal: controller.signal }), { message: 'enough' })
  }
})
