import { throwIfAborted } from '../abort.js'
import { expectation } from '../check.js'
import { loadMask, toTensor } from '../image/index.js'
import { maxSide, type GenerateRequest, type ImageInput } from '../options.js'
import type { Tensor } from '../types.js'
import type { Picture } from './initial-latents.js'
import { broadcastRows } from './tensors.js'

/**
 * Reads the image and the mask of a request, if it has them. Without width and height the picture keeps its own size, cut
 * to a multiple of the autoencoder's factor; with them it is resized.
 */
export async function loadInitImage(
  request: GenerateRequest,
  factor: number,
  signal: AbortSignal,
): Promise<{ request: GenerateRequest; picture?: Picture }> {
  if (request.latents) checkLatents(request, factor)
  if (request.image === undefined) return { request }
  const asked = request.sizeGiven ? { width: request.width, height: request.height } : undefined
  let image = isTensor(request.image) ? request.image : await toTensor(request.image, asked)
  throwIfAborted(signal)
  checkRows(image, request.count, 3, 'image')
  const [, , h, w] = image.shape
  const size = asked ?? { width: fit(w, factor), height: fit(h, factor) }
  if (size.width !== w || size.height !== h) {
    if (isTensor(request.image)) {
      throw new RangeError(`Expected ${size.width}×${size.height} pixels for image but received ${w}×${h}`)
    }
    image = await toTensor(request.image, size)
  }
  const sized = { ...request, ...size }
  if (sized.latents) checkLatents(sized, factor)
  if (request.mask === undefined) return { request: sized, picture: { image } }
  const mask = binary(await readMask(request.mask, size, factor, request.count))
  // Masks of several pictures painted into one image.
  return { request: sized, picture: { image: broadcastRows(image, mask.shape[0]), mask } }
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

/** Kept or painted anew: nothing between, as in diffusers. */
function binary({ data, shape }: Tensor): Tensor {
  return { data: data.map((x) => (x >= 0.5 ? 1 : 0)), shape }
}
