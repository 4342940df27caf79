import { throwIfAborted } from '../abort.js'
import { expectation } from '../check.js'
import { loadMask, toTensor } from '../image/index.js'
import { maxSide, type GenerateRequest, type ImageInput } from '../options/index.js'
import type { Tensor } from '../types.js'
import type { InitImage } from './initial-latents.js'
import { broadcastRows } from './tensors.js'

/**
 * Reads the image and the mask that a request starts from, if it has them. With width and height the image is resized;
 * without them it keeps its own size, cropped to multiples of the autoencoder's factor.
 *
 * @returns the request with the image's size
 */
export async function loadInitImage(
  request: GenerateRequest,
  factor: number,
  signal: AbortSignal,
): Promise<{ request: GenerateRequest; initImage?: InitImage }> {
  if (request.latents) checkLatents(request, factor)
  if (request.image === undefined) return { request }
  const given = request.sizeGiven ? { width: request.width, height: request.height } : undefined
  let image = isTensor(request.image) ? request.image : await toTensor(request.image, given)
  throwIfAborted(signal)
  checkRows(image, request.count, 3, 'image')
  const [, , h, w] = image.shape
  const size = given ?? { width: fit(w, factor), height: fit(h, factor) }
  if (size.width !== w || size.height !== h) {
    if (isTensor(request.image)) {
      throw new RangeError(`Expected ${size.width}×${size.height} pixels for image but received ${w}×${h}`)
    }
    image = await toTensor(request.image, size)
  }
  const sized = { ...request, ...size }
  if (sized.latents) checkLatents(sized, factor)
  if (request.mask === undefined) return { request: sized, initImage: { image } }
  const mask = binary(await readMask(request.mask, size, factor, request.count))
  // Several masks can share one image.
  return { request: sized, initImage: { image: broadcastRows(image, mask.shape[0]), mask } }
}

function fit(side: number, factor: number): number {
  return Math.min(Math.max(Math.floor(side / factor), 1) * factor, maxSide - (maxSide % factor))
}

function isTensor(input: ImageInput): input is Tensor {
  return typeof input === 'object' && 'shape' in input
}

function checkRows({ shape }: Tensor, count: number, channels: number, path: string): void {
  if (![1, count].includes(shape[0]) || shape[1] !== channels) {
    throw new RangeError(
      `Expected shape [${count}, ${channels}, h, w] for ${path} but received [${shape.join(', ')}]`,
    )
  }
}

function checkLatents({ latents, count, width, height }: GenerateRequest, factor: number): void {
  const [n, , h, w] = latents!.shape
  if ([1, count].includes(n) && h === height / factor && w === width / factor) return
  throw new RangeError(
    `Expected ${count} × ${height / factor}×${width / factor} latents but received shape [${latents!.shape.join(', ')}]`,
  )
}

async function readMask(
  input: ImageInput,
  size: { width: number; height: number },
  factor: number,
  count: number,
): Promise<Tensor> {
  if (!isTensor(input)) return (await loadMask(input, size, factor)).full
  checkRows(input, count, 1, 'mask')
  const [, , h, w] = input.shape
  if (h !== size.height || w !== size.width) {
    throw new RangeError(expectation(`${size.width}×${size.height} pixels`, 'mask', `${w}×${h}`))
  }
  return input
}

/** Binarizes a mask, as diffusers does. */
function binary({ data, shape }: Tensor): Tensor {
  return { data: data.map((x) => (x >= 0.5 ? 1 : 0)), shape }
}
