import {
  hasOtherShape,
  imageTensor,
  maskTensor,
  openImage,
  type ImageSize,
  type OpenedImage,
} from '../image/index.js'
import { maxSide, type GenerateRequest, type ImageInput } from '../options/index.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import { depthChannel, flatDepth } from './depth-map.js'
import type { InitImage } from './initial-latents.js'
import { broadcastRows } from './tensors.js'

const COLOURS = 3

/** An image of more than this many times the model's pixels is scaled to the model's size. */
const MAX_AREA = 4

/** The ×2 latent upscaler's factor. */
const LATENT_UPSCALING = 2

/** What loading an image must know. */
export interface ImageFacts {
  /** Pixels along one side for each latent. */
  factor: number
  /** Pixels along one side of the result must be multiples of this. */
  sideMultiple: number
  latentChannels: number
  /** Pixels along one side that the model was trained at. */
  imageSize: number
  signal: AbortSignal
  slice: TimeSlice
  /** Refuses a run that does not fit into memory. */
  requireMemory(request: GenerateRequest): void
}

/** A request with the size of its image. */
export interface SizedRequest {
  request: GenerateRequest
  initImage?: InitImage
  /** The depth map for the latents, [n, 1, h, w] in −1…1. */
  depth?: Tensor
  warnings: string[]
}

/**
 * Reads the image and the mask that a request starts from, if it has them. With width and height the image is resized;
 * without them it keeps its own size, rounded down to multiples of the autoencoder's factor, unless it is much larger
 * than the model's. For a model that enlarges images, width and height are those of the result. Sizes and memory are
 * checked before anything is decoded.
 */
export async function loadInitImage(request: GenerateRequest, facts: ImageFacts): Promise<SizedRequest> {
  const { factor, signal, slice } = facts
  if (request.latents) checkLatents(request, factor)
  // That of unCLIP has no size of its own to draw in.
  const image = request.extraInput === 'embedded-image' ? undefined : request.image
  if ((image === undefined && request.depth === undefined) || request.sizeGiven) facts.requireMemory(request)
  const takesLatents = request.extraInput === 'small-latents'
  const channels = takesLatents ? [3, facts.latentChannels] : [3]
  const source = await openInput(image, 'image', channels, request.count, signal)
  const depthSource = await openInput(request.depth, 'depth', [1], request.count, signal)
  const first = source ?? depthSource
  if (first === undefined) return { request, warnings: [] }

  const given = isLatents(source) ? factor : 1
  const own = { width: given * sizeOf(first).width, height: given * sizeOf(first).height }
  const times = enlargement(request, factor)
  const { size: result, warnings } =
    times > 1 ? enlargedSize(request, own, times, facts) : chooseSize(request, first, own, facts)
  const size = { width: result.width / times, height: result.height / times }
  const same = size.width === own.width && size.height === own.height
  if (source && isTensor(source) && !same)
    throw isLatents(source) ? wrongLatents(size, source.shape, factor) : wrongSize(size, 'image', own)
  const sized = { ...request, ...result }
  if (!request.sizeGiven) facts.requireMemory(sized)
  if (sized.latents) checkLatents(sized, factor)
  // The headers of all are checked before one of them is decoded.
  const maskSource = await openInput(request.mask, 'mask', [1], request.count, signal)
  if (maskSource && isTensor(maskSource)) {
    const found = sizeOf(maskSource)
    if (found.height !== size.height || found.width !== size.width) throw wrongSize(size, 'mask', found)
  }

  const depth = depthSource && (await loadDepth(depthSource, own, size, facts, warnings))
  const loaded = { request: sized, warnings, ...(depth && { depth }) }
  if (!source) return loaded
  const pixels = isTensor(source) ? source : await imageTensor(source, same ? undefined : size, slice)
  if (maskSource === undefined) return { ...loaded, initImage: { image: pixels } }
  const mask = binarize(isTensor(maskSource) ? maskSource : await maskTensor(maskSource, size, own, slice))
  warnings.push(...maskWarnings(maskSource, mask, own))
  // Several masks can share one image.
  return { ...loaded, initImage: { image: broadcastRows(pixels, mask.shape[0]), mask } }
}

async function loadDepth(
  source: Tensor | OpenedImage,
  own: ImageSize,
  size: ImageSize,
  { factor, slice }: ImageFacts,
  warnings: string[],
): Promise<Tensor> {
  const latents = { width: size.width / factor, height: size.height / factor }
  const channel = await depthChannel(source, own, size, latents, slice)
  if (channel) return channel
  warnings.push('The depth map is the same everywhere: it has no effect')
  return flatDepth(1, latents)
}

/** How many times larger than the image the result is. */
function enlargement({ extraInput }: GenerateRequest, factor: number): number {
  return extraInput === 'small-image' ? factor : extraInput === 'small-latents' ? LATENT_UPSCALING : 1
}

/**
 * The size of a run that makes this image `times` as large. An image whose size the model cannot take is scaled down to the
 * next one that it can.
 */
function enlargedSize(
  { sizeGiven, width, height }: GenerateRequest,
  own: ImageSize,
  times: number,
  { sideMultiple }: Pick<ImageFacts, 'sideMultiple'>,
) {
  const multiple = (side: number) => Math.max(Math.floor((times * side) / sideMultiple), 1) * sideMultiple
  const size = sizeGiven ? { width, height } : { width: multiple(own.width), height: multiple(own.height) }
  if (Math.max(size.width, size.height) > maxSide)
    throw new RangeError(
      `Expected an image of at most ${maxSide / times} pixels along one side but received ${own.width}×${own.height}`,
    )
  return { size, warnings: [] }
}

/** The size of a run with this image. */
function chooseSize(
  { sizeGiven, width, height }: GenerateRequest,
  source: Tensor | OpenedImage,
  own: ImageSize,
  { factor, imageSize }: ImageFacts,
): { size: ImageSize; warnings: string[] } {
  if (sizeGiven) return { size: { width, height }, warnings: [] }
  const multiple = (side: number) =>
    Math.min(Math.max(Math.floor(side / factor), 1) * factor, maxSide - (maxSide % factor))
  if (isTensor(source) || own.width * own.height <= MAX_AREA * imageSize ** 2)
    return { size: { width: multiple(own.width), height: multiple(own.height) }, warnings: [] }
  const scale = imageSize / Math.sqrt(own.width * own.height)
  const nearest = (side: number) => multiple(side * scale + factor / 2)
  const size = { width: nearest(own.width), height: nearest(own.height) }
  const warning =
    `The image was scaled from ${own.width}×${own.height} to ${size.width}×${size.height}, about as many pixels as the ` +
    'model was trained at: give width and height for another size'
  return { size, warnings: [warning] }
}

function maskWarnings(source: Tensor | OpenedImage, mask: Tensor, image: ImageSize): string[] {
  const warnings: string[] = []
  if (!isTensor(source) && hasOtherShape(source, image)) {
    warnings.push(
      `The mask (${source.width}×${source.height}) has another shape than the image (${image.width}×${image.height}): ` +
        'it was stretched',
    )
  }
  if (!mask.data.includes(1))
    warnings.push('The mask selects nothing, because no part of it is white: the image is not repainted')
  return warnings
}

function isTensor(input: ImageInput | OpenedImage): input is Tensor {
  return typeof input === 'object' && 'shape' in input
}

/** Latents in place of an image. */
export function isLatents(source: Tensor | OpenedImage | undefined): boolean {
  return source !== undefined && isTensor(source) && source.shape[1] !== COLOURS
}

function sizeOf(source: Tensor | OpenedImage): ImageSize {
  return isTensor(source) ? { width: source.shape[3], height: source.shape[2] } : source
}

function wrongSize(wanted: ImageSize, path: string, found: ImageSize): RangeError {
  return new RangeError(
    `Expected ${wanted.width}×${wanted.height} pixels for ${path} but received ${found.width}×${found.height}`,
  )
}

function wrongLatents({ width, height }: ImageSize, shape: readonly number[], factor: number): RangeError {
  const [n, channels] = shape
  const wanted = [n, channels, height / factor, width / factor]
  return new RangeError(`Expected shape [${wanted.join(', ')}] for image but received [${shape.join(', ')}]`)
}

function checkLatents({ latents, count, width, height }: GenerateRequest, factor: number): void {
  const [n, , h, w] = latents!.shape
  if ([1, count].includes(n) && h === height / factor && w === width / factor) return
  throw new RangeError(
    `Expected ${count} × ${height / factor}×${width / factor} latents but received shape [${latents!.shape.join(', ')}]`,
  )
}

/** Reads the header of an image, or checks the shape of a tensor, for one image or for each of `count`. */
async function openInput(
  input: ImageInput | undefined,
  path: string,
  channels: readonly number[],
  count: number,
  signal: AbortSignal,
): Promise<Tensor | OpenedImage | undefined> {
  if (input === undefined) return undefined
  if (!isTensor(input)) return openImage(input, path, signal)
  const { shape } = input
  if ([1, count].includes(shape[0]) && channels.includes(shape[1])) return input
  throw new RangeError(
    `Expected shape [${count}, ${channels.join(' or ')}, h, w] for ${path} but received [${shape.join(', ')}]`,
  )
}

/** 1 from 0.5 on and otherwise 0, as in diffusers. */
function binarize({ data, shape }: Tensor): Tensor {
  return { data: data.map((x) => (x >= 0.5 ? 1 : 0)), shape }
}
