/** The pictures of ControlNets: read, fitted to the size of the run, and brought to 0…1. */
import type { Sharp } from 'sharp'
import { openImage, type ImageSize } from '../image/index.js'
import { pixelsTensor } from '../image/load.js'
import { requireMemory } from '../memory.js'
import type { ControlFit, ControlRequest } from '../options/index.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'

/**
 * The picture of `control` as a tensor [n, 3, height, width] of 0…1.
 *
 * @throws {RangeError} a tensor of another size, or not of 1 or `count` pictures
 */
export async function controlPicture(
  { image, fit }: ControlRequest,
  path: string,
  size: ImageSize,
  count: number,
  signal: AbortSignal,
  slice: TimeSlice,
): Promise<Tensor> {
  const { width, height } = size
  if (typeof image === 'object' && 'shape' in image) {
    const [n, channels, h, w] = image.shape
    if (![1, count].includes(n) || channels !== 3 || h !== height || w !== width) {
      throw new RangeError(
        `Expected shape [${count}, 3, ${height}, ${width}] for ${path} but received [${image.shape.join(', ')}]`,
      )
    }
    return toUnit(image)
  }
  const opened = await openImage(image, path, signal)
  requireMemory(15 * width * height, `A picture of ${width}×${height}`)
  const same = opened.width === width && opened.height === height
  const pixels = await opened.decode((plain) => (same ? plain : fitted(plain, size, fit)))
  return toUnit(await pixelsTensor(pixels, slice))
}

/** As web UIs fit them: stretched, cut at the sides, or with borders in the colours of its edge. */
function fitted(image: Sharp, { width, height }: ImageSize, fit: ControlFit): Sharp {
  if (fit === 'fill') return image.resize(width, height, { fit: 'contain', background: '#000000' })
  return image.resize(width, height, { fit: fit === 'crop' ? 'cover' : 'fill' })
}

function toUnit({ data, shape }: Tensor): Tensor {
  return { data: data.map((x) => (x + 1) / 2), shape }
}
