/** Masks as people draw them in other programs. */
import sharp from 'sharp'
import t from 'tap'
import { openImage } from '../../lib/image/decode.js'
import { maskTensor } from '../../lib/image/mask.js'
import { DiffusionPipeline, Image, type Tensor } from '../../lib/index.js'
import { TimeSlice } from '../../lib/time-slice.js'
import { quick } from '../pipeline/support.js'

type Rgba = [number, number, number, number]
type Paint = (x: number, y: number) => Rgba

/** A PNG of which each pixel is painted. */
function picture(width: number, height: number, paint: Paint): Promise<Buffer> {
  const data = Buffer.alloc(width * height * 4)
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) data.set(paint(x, y), (y * width + x) * 4)
  return sharp(data, { raw: { width, height, channels: 4 } })
    .png()
    .toBuffer()
}

const side = 64
const inside = (x: number, y: number) => x >= 16 && x < 48 && y >= 16 && y < 48
const noise = (x: number, y: number) => (x * 37 + y * 91) % 256

/** The share of the pixels inside and outside of the square that a mask selects. */
async function selected(file: Uint8Array): Promise<[inner: number, outer: number]> {
  const mask = await maskTensor(
    await openImage(file, 'mask'),
    { width: side, height: side },
    { width: side, height: side },
    new TimeSlice(),
  )
  t.same(mask.shape, [1, 1, side, side])
  let [inner, outer] = [0, 0]
  mask.data.forEach((value, i) => {
    if (value < 0.5) return
    if (inside(i % side, Math.floor(i / side))) inner++
    else outer++
  })
  return [inner / (32 * 32), outer / (side * side - 32 * 32)]
}

t.test('what is repainted', async (t) => {
  const square = (fore: Rgba, back: Rgba) => picture(side, side, (x, y) => (inside(x, y) ? fore : back))
  const photo = (alpha: (x: number, y: number) => number) =>
    picture(side, side, (x, y) => [noise(x, y), noise(y, x), 200 - (x + y), alpha(x, y)])
  const cases: Record<string, [Promise<Buffer>, [number, number]]> = {
    'white on black': [square([255, 255, 255, 255], [0, 0, 0, 255]), [1, 0]],
    'black on white': [square([0, 0, 0, 255], [255, 255, 255, 255]), [0, 1]],
    'red on black': [square([255, 0, 0, 255], [0, 0, 0, 255]), [1, 0]],
    'blue on black': [square([0, 0, 255, 255], [0, 0, 0, 255]), [1, 0]],
    'values of 0 and 1': [square([1, 1, 1, 255], [0, 0, 0, 255]), [1, 0]],
    'all black': [square([0, 0, 0, 255], [0, 0, 0, 255]), [0, 0]],
    'all transparent': [square([255, 255, 255, 0], [255, 255, 255, 0]), [0, 0]],
    'black strokes on transparent': [square([0, 0, 0, 255], [0, 0, 0, 0]), [1, 0]],
    'white strokes on transparent': [square([255, 255, 255, 255], [255, 255, 255, 0]), [1, 0]],
    'red strokes on transparent white': [square([255, 0, 0, 255], [255, 255, 255, 0]), [1, 0]],
    'half transparent strokes': [square([0, 0, 0, 140], [0, 0, 0, 0]), [1, 0]],
    'a transparent hole in a photo': [photo((x, y) => (inside(x, y) ? 0 : 255)), [1, 0]],
    'a slightly transparent hole in a photo': [photo((x, y) => (inside(x, y) ? 200 : 255)), [1, 0]],
    'white and black on transparent': [
      picture(side, side, (x, y) =>
        inside(x, y) ? [255, 255, 255, 255] : x < 8 ? [0, 0, 0, 0] : [0, 0, 0, 255],
      ),
      [1, 0],
    ],
  }
  for (const [name, [file, expected]] of Object.entries(cases))
    t.same(await selected(await file), expected, name)
})

t.test('another aspect ratio is stretched like the image', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  // The right half of the image and of the mask, which was drawn on a square.
  const mask = await picture(64, 64, (x) => (x >= 32 ? [255, 255, 255, 255] : [0, 0, 0, 255]))
  const tensor = await maskTensor(
    await openImage(mask, 'mask'),
    { width: 96, height: 96 },
    { width: 192, height: 96 },
    new TimeSlice(),
  )
  // The image is cropped to its middle half: columns 48…144 of 192. The mask begins at 96, the middle.
  t.same(
    [...tensor.data.subarray(0, 96)].map(Math.round),
    Array.from({ length: 96 }, (_, x) => (x >= 48 ? 1 : 0)),
  )
  const image = new Image(128, 64, new Uint8Array(3 * 128 * 64).fill(90))
  const { warnings } = await pipe.generate({ ...quick, image, mask })
  t.match(warnings.join(), /The mask \(64×64\) has another shape than the image \(128×64\): it was stretched/)
  const same = await pipe.generate({ ...quick, image: new Image(60, 60, new Uint8Array(3 * 3600)), mask })
  t.notMatch(same.warnings.join(), /another shape/)
})

t.test('a mask that selects nothing is named', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const image = new Image(side, side, new Uint8Array(3 * side * side).fill(90))
  const black = new Image(side, side, new Uint8Array(3 * side * side))
  const { warnings } = await pipe.generate({ ...quick, image, mask: black })
  t.match(warnings.join(), /The mask selects nothing/)
  const white: Tensor = { data: new Float32Array(side * side).fill(1), shape: [1, 1, side, side] }
  t.notMatch((await pipe.generate({ ...quick, image, mask: white })).warnings.join(), /selects nothing/)
})

t.test('a strip that is narrower than a latent is repainted', async (t) => {
  await using pipe = await DiffusionPipeline.load()
  const image = new Image(side, side, new Uint8Array(3 * side * side).fill(90))
  const draw = (paint: (x: number, y: number) => boolean) => {
    const mask: Tensor = { data: new Float32Array(side * side), shape: [1, 1, side, side] }
    for (let y = 0; y < side; y++)
      for (let x = 0; x < side; x++) mask.data[y * side + x] = paint(x, y) ? 1 : 0
    return pipe.generate({ ...quick, image, mask, outputType: 'latents', scheduler: 'ddim' })
  }
  const none = (await draw(() => false)).latents!.data
  const changed = (latents: Float32Array) => {
    const columns = new Set<number>()
    latents.forEach((value, i) => value !== none[i] && columns.add(i % 16))
    return [...columns].sort((a, b) => a - b)
  }
  // The bundled model has 4 pixels for each latent: columns 17…19 lie between the pixels that latents are taken from.
  t.same(changed((await draw((x) => x >= 17 && x < 20)).latents!.data), [4])
  // The edge of a broad stroke stays where torch's nearest interpolation has it.
  t.same(changed((await draw((x) => x >= 17 && x < 33)).latents!.data), [5, 6, 7, 8])
})
