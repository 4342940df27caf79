/** What a picture shows, for ControlNets that take several kinds of pictures. */
import { checkInteger, checkOneOf } from '../check.js'
import { quote } from '../quote.js'
import type { CheckedPreprocessor } from './preprocessors.js'

/**
 * Kinds of pictures of union ControlNets, in the order of the published ones: poses; depth; soft edges, scribbles and
 * sketches; hard edges (canny, line art, straight lines); normals; segments. Those of later ones: a picture to add details
 * to; a picture of which a part is to be painted.
 */
export type ControlType =
  | 'openpose'
  | 'depth'
  | 'scribble'
  | 'softedge'
  | 'canny'
  | 'lineart'
  | 'mlsd'
  | 'normal'
  | 'segment'
  | 'tile'
  | 'blur'
  | 'repaint'
  | 'inpaint'

const typeNumbers: Readonly<Record<ControlType, number>> = {
  openpose: 0,
  depth: 1,
  ...{ scribble: 2, softedge: 2 },
  ...{ canny: 3, lineart: 3, mlsd: 3 },
  normal: 4,
  segment: 5,
  ...{ tile: 6, blur: 6 },
  ...{ repaint: 7, inpaint: 7 },
}

export const controlTypes = Object.keys(typeNumbers) as ControlType[]

/** What a preprocessor makes, where that is a kind of picture. */
const typeOf: Partial<Record<CheckedPreprocessor['type'], ControlType>> = {
  canny: 'canny',
  scribble: 'scribble',
  semantic: 'segment',
  tile: 'tile',
  blur: 'blur',
}

/** The number of a kind of picture, of so many. */
export function checkControlType(
  value: unknown,
  path: string,
  types: number,
  preprocessor: Pick<CheckedPreprocessor, 'type'> | undefined,
): number | undefined {
  if (types === 0) {
    if (value === undefined) return undefined
    throw new TypeError(`Expected no ${path}, as this ControlNet takes one kind of picture`)
  }
  const given = value === undefined ? preprocessor && typeOf[preprocessor.type] : value
  if (given === undefined)
    throw new TypeError(
      `Expected ${path}, as this ControlNet takes several kinds of pictures: one of ${controlTypes.join(', ')}, or a number`,
    )
  if (typeof given !== 'string') return checkInteger(given, path, 0, types - 1)
  const name = checkOneOf(given, path, controlTypes)
  if (typeNumbers[name] < types) return typeNumbers[name]
  const known = controlTypes.filter((one) => typeNumbers[one] < types)
  throw new RangeError(
    `Expected one of ${known.join(', ')} for ${path}, as this ControlNet has no others, but received ${quote(name)}`,
  )
}
