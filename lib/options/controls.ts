/** The option `controls` of generate(): pictures that guide a run through ControlNets. */
import {
  checkBoolean,
  checkInteger,
  checkList,
  checkObject,
  checkOneOf,
  expectation,
  isArray,
} from '../check.js'
import { checkControlType, type ControlType } from './control-types.js'
import { checkGuiding, checkScale, type Guiding } from './guiding.js'
import { copyImage, type ImageInput } from './images.js'
import { checkPreprocessor, type CheckedPreprocessor, type Preprocessor } from './preprocessors.js'

/** A picture that guides a run through a ControlNet. */
export interface ControlOptions {
  /** Which of load()'s `controlNets`, counted from 0. Default: 0. */
  net?: number
  /** The picture as the ControlNet was trained on it: edges, depth, a pose. A tensor [n, 3, h, w] is in −1…1. */
  image: ImageInput
  /**
   * For inpaint ControlNets: white where the picture is to be painted anew, as a tensor [1, 1, height, width] in 0…1. They
   * see −1 there in place of colours of 0…1, and a union ControlNet sees black. Default: nowhere.
   */
  mask?: ImageInput
  /** How strongly it guides, −10…10. Default: 1. */
  scale?: number
  /** The part of the steps that it guides, as fractions 0…1. Default: 0 to 1, all steps. */
  start?: number
  end?: number
  /**
   * Whether it guides without a prompt's help ("guess mode"): the unconditional prediction does not see it, and its
   * weights grow with depth, from 0.1 to 1. Default: false.
   */
  guess?: boolean
  /**
   * A factor of each residual, in the order of the encoder's layers, the middle block's last; 'soft' stands for 0.825^k,
   * k counted from the middle block, which web UIs have for "My prompt is more important". Default: 1 for all, or those
   * of `guess`.
   */
  weights?: 'soft' | readonly number[]
  /**
   * How a picture of another shape is fitted: 'resize' stretches it, 'crop' cuts its sides, 'fill' adds borders in the
   * median colour of its edge. Default: 'crop'.
   */
  fit?: ControlFit
  /** What makes the picture that the ControlNet expects of `image`, at the size of the run. Default: it is used as it is. */
  preprocessor?: Preprocessor
  /**
   * What the picture shows, for a union ControlNet: a name, or the number of a kind. Default: what `preprocessor` makes;
   * without one, there is none.
   */
  type?: ControlType | number
}

export type ControlFit = 'resize' | 'crop' | 'fill'

export const controlFits: readonly ControlFit[] = ['resize', 'crop', 'fill']

/** ControlOptions with all defaults filled in. */
export interface ControlRequest extends Guiding {
  net: number
  image: ImageInput
  mask?: ImageInput
  guess: boolean
  /** A factor of each residual, without `scale`. */
  weights: Float32Array
  fit: ControlFit
  preprocessor: CheckedPreprocessor | undefined
  /** Of a union ControlNet; undefined for others. */
  type: number | undefined
}

/** What a loaded ControlNet, ControlLLLite or T2I-Adapter takes. */
export interface ControlTarget {
  /** Number of its residuals or features; 0: it adds nothing that `weights` could be factors of (ControlLLLite). */
  residuals: number
  /** Kinds of pictures that it tells apart; 0: it takes one. */
  types: number
  /** Whether its pictures may be masked: those of ControlNets. */
  masks: boolean
}

const keys = [
  'net',
  'image',
  'mask',
  'scale',
  'start',
  'end',
  'guess',
  'weights',
  'fit',
  'preprocessor',
  'type',
] as const satisfies (keyof ControlOptions)[]

/** Several pictures share memory and time; more than these are a mistake. */
const MAX_CONTROLS = 16

/** @param nets those that were loaded */
export function checkControls(value: unknown, nets: readonly ControlTarget[]): ControlRequest[] {
  if (value === undefined) return []
  const list = checkList(value, 'controls', MAX_CONTROLS)
  if (nets.length === 0 && list.length > 0)
    throw new TypeError('Expected a pipeline loaded with controlNets, as controls was given')
  return list.map((one, i) => checkControl(one, `controls[${i}]`, nets))
}

function checkControl(value: unknown, path: string, nets: readonly ControlTarget[]): ControlRequest {
  const given = checkObject(value, path, keys)
  const net = given.net === undefined ? 0 : checkInteger(given.net, `${path}.net`, 0, nets.length - 1)
  if (given.mask !== undefined && !nets[net].masks)
    throw new TypeError(`Expected no ${path}.mask, as ControlLLLites and T2I-Adapters take none`)
  const guiding = checkGuiding(given, path)
  const guess = given.guess !== undefined && checkBoolean(given.guess, `${path}.guess`)
  const preprocessor =
    given.preprocessor === undefined
      ? undefined
      : checkPreprocessor(given.preprocessor, `${path}.preprocessor`)
  return {
    net,
    image: copyImage(given.image, `${path}.image`),
    ...(given.mask !== undefined && { mask: copyImage(given.mask, `${path}.mask`) }),
    ...guiding,
    guess,
    weights: checkWeights(given.weights, `${path}.weights`, nets[net].residuals, guess),
    fit: given.fit === undefined ? 'crop' : checkOneOf(given.fit, `${path}.fit`, controlFits),
    preprocessor,
    type: checkControlType(given.type, `${path}.type`, nets[net].types, preprocessor),
  }
}

function checkWeights(value: unknown, path: string, count: number, guess: boolean): Float32Array {
  if (count === 0 && value !== undefined)
    throw new TypeError(`Expected no ${path}, as a ControlLLLite has no residuals`)
  if (value === 'soft') return Float32Array.from({ length: count }, (_, i) => 0.825 ** (count - 1 - i))
  if (value === undefined) {
    // As torch.logspace(−1, 0, count) for guess mode.
    return Float32Array.from({ length: count }, (_, i) => (guess ? 10 ** (i / (count - 1) - 1) : 1))
  }
  if (!isArray(value)) throw new TypeError(expectation("'soft' or array of numbers", path, value))
  if (value.length !== count)
    throw new RangeError(
      `Expected ${count} numbers for ${path}, one for each residual, but received ${value.length}`,
    )
  return Float32Array.from(value, (one, i) => checkScale(one, `${path}[${i}]`))
}

/** For the metadata: what each picture was taken for. */
export function controlSettings(
  controls: readonly ControlRequest[],
  names: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    controls.map(({ net, scale, start, end, guess, preprocessor, type }, i) => [
      `ControlNet ${i}`,
      (preprocessor ? `Module: ${preprocessor.type}, ` : '') +
        `Model: ${names[net]}, Weight: ${scale}, Guidance Start: ${start}, Guidance End: ${end}` +
        (guess ? ', Control Mode: ControlNet is more important' : '') +
        (type === undefined ? '' : `, Union Control Type: ${type}`),
    ]),
  )
}
