/** The pictures of ControlNets: read, fitted to the size of the run, preprocessed, and brought to 0…1. */
import { checkObject, checkOneOf, checkSignal } from '../check.js'
import { Image, openImage, type ImageSize, type ImageSource } from '../image/index.js'
import type { OpenedImage, Pixels } from '../image/decode.js'
import { checkSize, imageFromTensor, pixelsTensor } from '../image/load.js'
import { requireMemory } from '../memory.js'
import {
  checkPreprocessor,
  controlFits,
  type CheckedPreprocessor,
  type ControlFit,
  type ControlRequest,
  type Preprocessor,
} from '../options/index.js'
import { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import { padded, scaled, scaledSize } from './fit.js'
import { preprocess } from './preprocess/index.js'

/** What happens to a picture. */
interface Treatment {
  fit: ControlFit
  preprocessor: CheckedPreprocessor | undefined
  signal: AbortSignal | undefined
  slice: TimeSlice
}

/** A run's pictures. */
interface Run {
  size: ImageSize
  /** Number of its images. */
  count: number
  signal: AbortSignal
  slice: TimeSlice
}

/** What inpaint ControlNets are trained to see where a picture is to be painted anew. */
const MASKED = -1
/** The same of union ControlNets: black. */
const MASKED_IN_UNION = 0

/**
 * The picture of a control as a tensor [n, 3, height, width] of 0…1, and less where it is masked.
 *
 * @param path the control's, for errors
 * @throws {RangeError} a tensor of another size, or not of 1 or `count` pictures
 */
export async function controlPicture(control: ControlRequest, path: string, run: Run): Promise<Tensor> {
  const picture = await plainPicture(control, `${path}.image`, run)
  if (control.mask === undefined) return picture
  const isMasked = await readMask(control.mask, control.fit, `${path}.mask`, run)
  const masked = control.type === undefined ? MASKED : MASKED_IN_UNION
  const area = run.size.width * run.size.height
  await run.slice.pause()
  return { ...picture, data: picture.data.map((x, i) => (isMasked(i % area) ? masked : x)) }
}

async function plainPicture(
  { image, fit, preprocessor }: ControlRequest,
  path: string,
  { size, count, signal, slice }: Run,
): Promise<Tensor> {
  const treatment = { fit, preprocessor, signal, slice }
  if (typeof image === 'object' && 'shape' in image) {
    checkShape(image, [count, 3, size.height, size.width], path)
    return toUnit(preprocessor ? await preprocessTensor(image, treatment, preprocessor) : image)
  }
  return toUnit(
    await pixelsTensor(await treated(await openImage(image, path, signal), size, treatment), slice),
  )
}

/** Tells of each pixel whether a mask is more white than black there. It is fitted as the picture is. */
async function readMask(
  mask: NonNullable<ControlRequest['mask']>,
  fit: ControlFit,
  path: string,
  { size, signal, slice }: Run,
): Promise<(pixel: number) => boolean> {
  if (typeof mask === 'object' && 'shape' in mask) {
    checkShape(mask, [1, 1, size.height, size.width], path)
    return (pixel) => mask.data[pixel] > 0.5
  }
  const treatment = { fit, preprocessor: undefined, signal, slice }
  const { data } = await treated(await openImage(mask, path, signal), size, treatment)
  return (pixel) => data[3 * pixel] + data[3 * pixel + 1] + data[3 * pixel + 2] > 1.5 * 255
}

/** Of [n, …], also [1, …]. */
function checkShape({ shape }: Tensor, wanted: readonly number[], path: string): void {
  const [n, ...sizes] = wanted
  if ([1, n].includes(shape[0]) && shape.slice(1).join() === sizes.join()) return
  throw new RangeError(`Expected shape [${wanted.join(', ')}] for ${path} but received [${shape.join(', ')}]`)
}

async function treated(
  opened: OpenedImage,
  size: ImageSize,
  { fit, preprocessor, signal, slice }: Treatment,
): Promise<Pixels> {
  const { width, height } = size
  requireMemory(15 * width * height + treatmentBytes(size, preprocessor), `A picture of ${width}×${height}`)
  const inner = scaledSize(opened, size, fit)
  const same = opened.width === inner.width && opened.height === inner.height
  const labels = preprocessor?.type === 'semantic'
  const plain = await opened.decode((image) => (same ? image : scaled(image, inner, fit, labels)))
  const pixels = preprocessor ? await preprocess(plain, preprocessor, signal, slice) : plain
  return padded(pixels, size, slice)
}

async function preprocessTensor(
  tensor: Tensor,
  { signal, slice }: Treatment,
  preprocessor: CheckedPreprocessor,
): Promise<Tensor> {
  const [n, ...shape] = tensor.shape
  const size = tensor.data.length / n
  const out = new Float32Array(tensor.data.length)
  for (let i = 0; i < n; i++) {
    const one = { data: tensor.data.subarray(i * size, (i + 1) * size), shape: [1, ...shape] }
    const image = await imageFromTensor(one, slice)
    const pixels = await preprocess(image, preprocessor, signal, slice)
    out.set((await pixelsTensor(pixels, slice)).data, i * size)
  }
  return { data: out, shape: tensor.shape }
}

/** Bytes for each pixel that a preprocessor takes at its peak: the gradients of one, both blurred pictures of the other. */
const BYTES: Partial<Record<CheckedPreprocessor['type'], number>> = { canny: 20, scribble: 40 }

/** Memory in bytes that making the picture takes beside the picture. */
export function treatmentBytes(
  { width, height }: ImageSize,
  preprocessor: CheckedPreprocessor | undefined,
): number {
  return width * height * (preprocessor === undefined ? 0 : (BYTES[preprocessor.type] ?? 6))
}

/**
 * The picture that `preprocessor` makes of an image, for a look at it before a run, or to make it once for many. `size`
 * and `fit` are as in a run with `controls`; without `size`, the result has the size of the image.
 *
 * @throws {TypeError} an option of the wrong type
 * @throws {RangeError} a setting out of bounds, or an image of more than 134 megapixels
 * @throws {DiffusionError} IO: the image cannot be read; OUT_OF_MEMORY: it does not fit into memory
 * @throws the signal's reason after an abort
 */
export async function preprocessImage(
  input: ImageSource,
  preprocessor: Preprocessor,
  options: { size?: ImageSize; fit?: ControlFit; signal?: AbortSignal } = {},
): Promise<Image> {
  const given = checkObject(options, 'options', ['size', 'fit', 'signal'])
  const signal = checkSignal(given.signal)
  const checked = checkPreprocessor(preprocessor, 'preprocessor')
  const fit = given.fit === undefined ? 'crop' : checkOneOf(given.fit, 'fit', controlFits)
  const size = given.size === undefined ? undefined : checkSize(given.size)
  const opened = await openImage(input, 'image', signal)
  const slice = new TimeSlice(signal)
  const treatment = { fit, preprocessor: checked, signal, slice }
  const { data, width, height } = await treated(opened, size ?? opened, treatment)
  return new Image(width, height, data)
}

function toUnit({ data, shape }: Tensor): Tensor {
  return { data: data.map((x) => (x + 1) / 2), shape }
}
