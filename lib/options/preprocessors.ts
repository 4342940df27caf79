/** Preprocessors: what makes the picture that a ControlNet expects of any picture. */
import {
  checkBoolean,
  checkInteger,
  checkNumber,
  checkObject,
  checkOneOf,
  expectation,
  isArray,
} from '../check.js'

/** A colour: red, green, blue, 0…255. */
export type Colour = readonly [red: number, green: number, blue: number]

/**
 * How a picture becomes what a ControlNet was trained on. A name stands for the defaults.
 *
 * - `canny`: white edges on black, as OpenCV's Canny() finds them in the colours; gradients above `high` begin an edge,
 *   and those above `low` continue it (100 and 200)
 * - `scribble`: strokes along the edges of light and dark (extended difference of Gaussians); a lower `threshold` gives
 *   more of them (32)
 * - `threshold`: white where all colours are above `threshold`, otherwise black (127)
 * - `grey`: luma, in all three channels
 * - `invert`: black on white becomes white on black
 * - `blur`: Gaussian, `sigma` pixels (9)
 * - `tile`: the details smaller than `factor` pixels are left out (4)
 * - `colour`: squares of `size` pixels, each in one colour (64)
 * - `semantic`: each pixel gets the nearest colour of `palette`; with `labels`, its red channel is the index of its colour
 */
export type Preprocessor =
  | PlainPreprocessor
  | { type: 'canny'; low?: number; high?: number }
  | { type: 'scribble' | 'threshold'; threshold?: number }
  | { type: 'grey' | 'invert' }
  | { type: 'blur'; sigma?: number }
  | { type: 'tile'; factor?: number }
  | { type: 'colour'; size?: number }
  | { type: 'semantic'; palette: readonly Colour[]; labels?: boolean }

/** A preprocessor that needs no settings. */
export type PlainPreprocessor =
  'canny' | 'scribble' | 'threshold' | 'grey' | 'invert' | 'blur' | 'tile' | 'colour'

/** A Preprocessor with all defaults filled in. */
export type CheckedPreprocessor =
  | { type: 'canny'; low: number; high: number }
  | { type: 'scribble' | 'threshold'; threshold: number }
  | { type: 'grey' | 'invert' }
  | { type: 'blur'; sigma: number }
  | { type: 'tile'; factor: number }
  | { type: 'colour'; size: number }
  | { type: 'semantic'; palette: Colour[]; labels: boolean }

export const plainPreprocessors = [
  'canny',
  'scribble',
  'threshold',
  'grey',
  'invert',
  'blur',
  'tile',
  'colour',
] as const satisfies PlainPreprocessor[]

/** The largest gradient of Canny(): that of Sobel's filters in both directions. */
const MAX_GRADIENT = 2040
const MAX_SIGMA = 100
const MAX_SQUARE = 1024
const MAX_COLOURS = 256

export function checkPreprocessor(value: unknown, path: string): CheckedPreprocessor {
  const types = [...plainPreprocessors, 'semantic'] as const
  if (typeof value === 'string') {
    if (value === 'semantic') {
      throw new TypeError(`Expected { type: 'semantic', palette } for ${path} but received 'semantic' alone`)
    }
    return checkPreprocessor({ type: checkOneOf(value, path, types) }, path)
  }
  // Its type says which other keys it has.
  const { type: given } = checkObject(value, path, ['type', ...new Set(Object.values(KEYS).flat())])
  const type = checkOneOf(given, `${path}.type`, types)
  const o = checkObject(value, path, ['type', ...KEYS[type]])
  const number = (key: string, fallback: number, lowest: number, highest: number) =>
    o[key] === undefined ? fallback : checkNumber(o[key], `${path}.${key}`, lowest, highest)
  const integer = (key: string, fallback: number, lowest: number, highest: number) =>
    o[key] === undefined ? fallback : checkInteger(o[key], `${path}.${key}`, lowest, highest)
  switch (type) {
    case 'canny': {
      const [low, high] = [number('low', 100, 0, MAX_GRADIENT), number('high', 200, 0, MAX_GRADIENT)]
      if (low > high)
        throw new RangeError(`Expected ${path}.low of at most ${path}.high but received ${low} and ${high}`)
      return { type, low, high }
    }
    case 'scribble':
    case 'threshold':
      return { type, threshold: integer('threshold', type === 'scribble' ? 32 : 127, 0, 255) }
    case 'grey':
    case 'invert':
      return { type }
    case 'blur':
      return { type, sigma: number('sigma', 9, 0.3, MAX_SIGMA) }
    case 'tile':
      return { type, factor: number('factor', 4, 1, MAX_SQUARE) }
    case 'colour':
      return { type, size: integer('size', 64, 1, MAX_SQUARE) }
    case 'semantic':
      return {
        type,
        palette: checkPalette(o.palette, `${path}.palette`),
        labels: o.labels !== undefined && checkBoolean(o.labels, `${path}.labels`),
      }
  }
}

const KEYS: Record<CheckedPreprocessor['type'], readonly string[]> = {
  canny: ['low', 'high'],
  scribble: ['threshold'],
  threshold: ['threshold'],
  grey: [],
  invert: [],
  blur: ['sigma'],
  tile: ['factor'],
  colour: ['size'],
  semantic: ['palette', 'labels'],
}

function checkPalette(value: unknown, path: string): Colour[] {
  if (!isArray(value)) throw new TypeError(expectation('array of colours', path, value))
  if (value.length < 1 || value.length > MAX_COLOURS)
    throw new RangeError(`Expected 1 to ${MAX_COLOURS} colours for ${path} but received ${value.length}`)
  return Array.from(value, (one: unknown, i) => {
    const name = `${path}[${i}]`
    if (!isArray(one) || one.length !== 3) throw new TypeError(expectation('[red, green, blue]', name, one))
    const [red, green, blue] = one.map((level, c) => checkInteger(level, `${name}[${c}]`, 0, 255))
    return [red, green, blue] as const
  })
}
