/** Preprocessors: what makes the picture that a ControlNet expects of any picture. */
import type { Sharp } from 'sharp'
import { raceAbort } from '../../abort.js'
import type { Pixels } from '../../image/decode.js'
import type { ImageSize } from '../../image/index.js'
import { loadSharp } from '../../image/sharp.js'
import type { CheckedPreprocessor, Colour } from '../../options/index.js'
import type { TimeSlice } from '../../time-slice.js'
import { cannyEdges } from './canny.js'
import { scribbleEdges } from './scribble.js'

/** The picture of the same size that `preprocessor` makes of RGB pixels. */
export async function preprocess(
  pixels: Pixels,
  preprocessor: CheckedPreprocessor,
  signal: AbortSignal | undefined,
  slice: TimeSlice,
): Promise<Pixels> {
  const { width, height } = pixels
  switch (preprocessor.type) {
    case 'canny':
      return grey(await cannyEdges(pixels, preprocessor.low, preprocessor.high, slice), pixels, slice)
    case 'scribble':
      return grey(await scribbleEdges(pixels, preprocessor.threshold, slice), pixels, slice)
    case 'threshold': {
      const { threshold } = preprocessor
      return map(pixels, slice, (r, g, b) => fill(Math.min(r, g, b) > threshold ? 255 : 0))
    }
    case 'grey':
      return map(pixels, slice, (r, g, b) => fill(luma(r, g, b)))
    case 'invert':
      return map(pixels, slice, (r, g, b) => [255 - r, 255 - g, 255 - b])
    case 'semantic': {
      const { palette, labels } = preprocessor
      if (labels) return map(pixels, slice, (r) => palette[Math.min(r, palette.length - 1)])
      return map(pixels, slice, nearestOf(palette))
    }
    case 'blur':
      return edited(pixels, signal, (image) =>
        image.blur({ sigma: preprocessor.sigma, precision: 'float', minAmplitude: 0.01 }),
      )
    case 'tile': {
      const { factor } = preprocessor
      const small = [width, height].map((side) => Math.max(Math.round(side / factor), 1))
      const reduced = await edited(pixels, signal, (image) =>
        image.resize(small[0], small[1], { fit: 'fill', kernel: 'cubic' }),
      )
      return edited(reduced, signal, (image) => image.resize(width, height, { fit: 'fill', kernel: 'cubic' }))
    }
    case 'colour':
      return squares(pixels, preprocessor.size, signal, slice)
  }
}

/** A picture of one colour for each pixel, row by row. */
async function paint(
  { width, height }: ImageSize,
  slice: TimeSlice,
  colourOf: (pixel: number) => Colour,
): Promise<Pixels> {
  const data = new Uint8Array(3 * width * height)
  for (let pixel = 0; pixel < width * height; pixel++) {
    data.set(colourOf(pixel), 3 * pixel)
    if (pixel % 4096 === 0) await slice.pause()
  }
  return { data, width, height }
}

/** Changes each pixel by itself. */
function map(
  { data, width, height }: Pixels,
  slice: TimeSlice,
  change: (red: number, green: number, blue: number) => Colour,
): Promise<Pixels> {
  return paint({ width, height }, slice, (pixel) =>
    change(data[3 * pixel], data[3 * pixel + 1], data[3 * pixel + 2]),
  )
}

const fill = (level: number): Colour => [level, level, level]

/** ITU-R BT.601, rounded as Pillow does. */
function luma(red: number, green: number, blue: number): number {
  return (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
}

/** The picture of one channel. */
function grey(levels: Uint8Array, size: ImageSize, slice: TimeSlice): Promise<Pixels> {
  return paint(size, slice, (pixel) => fill(levels[pixel]))
}

/** Finds the nearest colour of a palette; neighbouring pixels often have the same colour. */
function nearestOf(palette: readonly Colour[]): (red: number, green: number, blue: number) => Colour {
  let [last, found]: [number, Colour] = [-1, palette[0]]
  return (red, green, blue) => {
    const key = (red << 16) | (green << 8) | blue
    if (key === last) return found
    last = key
    let best = Infinity
    for (const colour of palette) {
      const distance = (red - colour[0]) ** 2 + (green - colour[1]) ** 2 + (blue - colour[2]) ** 2
      if (distance >= best) continue
      best = distance
      found = colour
    }
    return found
  }
}

/** Squares of `size` pixels from the top left, each in the mean of its colours. */
async function squares(
  pixels: Pixels,
  size: number,
  signal: AbortSignal | undefined,
  slice: TimeSlice,
): Promise<Pixels> {
  const { width, height } = pixels
  const [columns, rows] = [Math.ceil(width / size), Math.ceil(height / size)]
  const small = await edited(pixels, signal, (image) =>
    image.resize(columns, rows, { fit: 'fill', kernel: 'cubic' }),
  )
  return paint(pixels, slice, (pixel) => {
    const [x, y] = [pixel % width, Math.floor(pixel / width)]
    const row = Math.min(Math.floor((y * rows) / height), rows - 1)
    const at = 3 * (row * columns + Math.floor((x * columns) / width))
    return [small.data[at], small.data[at + 1], small.data[at + 2]]
  })
}

/** Has sharp change the pixels, on its own threads. */
async function edited(
  { data, width, height }: Pixels,
  signal: AbortSignal | undefined,
  edit: (image: Sharp) => Sharp,
): Promise<Pixels> {
  const sharp = await raceAbort(signal, loadSharp())
  const image = sharp(data, { raw: { width, height, channels: 3 }, limitInputPixels: false })
  const result = edit(image).raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true })
  const { data: bytes, info } = await raceAbort(signal, result)
  // Not a Buffer: images have plain bytes.
  return { data: new Uint8Array(bytes), width: info.width, height: info.height }
}
