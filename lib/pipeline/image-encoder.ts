import { checkInteger, checkObject, checkSignal, copyTensor, isArray } from '../check.js'
import { bytesOf, encoderPixels } from '../image/encoder-pixels.js'
import { openImage } from '../image/index.js'
import { requireMemory } from '../memory.js'
import { cancellable } from '../native-call.js'
import { native, type ImageEncoderConfig, type NativeImageEncoder } from '../native.js'
import type { Placement } from '../device/index.js'
import { openImageEncoder, type ImageEncoderDescription } from '../models/image-encoder.js'
import { copyImage, type ImageInput } from '../options/index.js'
import { TimeSlice } from '../time-slice.js'
import type { DeviceName, PixelStatistics, Tensor } from '../types.js'
import { loadAlone, type AutoencoderOptions } from './autoencoder.js'
import { Component, type CallOptions } from './component.js'
import { fill } from './tensors.js'

/** Images that are encoded at once. Working memory grows with them, and more are hardly faster for each. */
const IMAGES_AT_ONCE = 4

/** The CLIP image model (Radford et al. 2021), transformers' CLIPVisionModelWithProjection: images to their embeddings. */
export class ImageEncoder extends Component<NativeImageEncoder> {
  readonly config: Readonly<ImageEncoderConfig>
  readonly #statistics: PixelStatistics

  private constructor(
    model: NativeImageEncoder,
    config: ImageEncoderConfig,
    statistics: PixelStatistics,
    device: DeviceName,
  ) {
    super(model, 'image encoder', device)
    this.config = config
    this.#statistics = statistics
  }

  /**
   * Loads an image encoder.
   *
   * @param path a transformers folder, a pipeline's folder with `image_encoder`, or a file with transformers' or
   *   OpenCLIP's tensor names; or `hf:owner/name`
   * @throws {DiffusionError} as DiffusionPipeline.load()
   */
  static async load(path: string, options: AutoencoderOptions = {}): Promise<ImageEncoder> {
    return loadAlone(path, options, openImageEncoder, (...given) => ImageEncoder.from(...given))
  }

  /** @internal Loads it on a device that is open already. */
  static async from(
    { config, source, statistics }: ImageEncoderDescription,
    placement: Placement,
    { signal }: CallOptions = {},
  ): Promise<ImageEncoder> {
    const model = await cancellable(signal, (cancel) =>
      native().loadImageEncoder(config, { ...source, device: placement.cuda }, cancel),
    )
    return new ImageEncoder(model, config, statistics, placement.device)
  }

  /**
   * Images as encode() takes them, [n, 3, imageSize, imageSize]: the centre, its shorter side resized as Pillow does it,
   * normalized. A tensor [n, 3, h, w] in −1…1 counts as n images; transparent parts become white.
   *
   * @throws {TypeError | RangeError} something else than images
   * @throws {DiffusionError} IO: an image cannot be read; OUT_OF_MEMORY
   */
  async preprocess(images: ImageInput | readonly ImageInput[], options: CallOptions = {}): Promise<Tensor> {
    const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
    const list: unknown[] = isArray(images) ? Array.from(images) : [images]
    if (list.length === 0) throw new RangeError('Expected at least 1 image but received 0')
    const copies = list.map((image, i) => copyImage(image, isArray(images) ? `images[${i}]` : 'images'))
    const { imageSize } = this.config
    const slice = new TimeSlice(signal)
    const rows: Float32Array[] = []
    for (const image of copies) {
      const opened =
        typeof image === 'object' && 'shape' in image ? image : await openImage(image, 'images', signal)
      const count = 'shape' in opened ? opened.shape[0] : 1
      for (let i = 0; i < count; i++)
        rows.push(await encoderPixels(await bytesOf(opened, i), imageSize, this.#statistics, slice))
    }
    const data = fill(new Float32Array(rows.length * 3 * imageSize ** 2), rows)
    return { data, shape: [rows.length, 3, imageSize, imageSize] }
  }

  /**
   * Preprocessed images to their embeddings [n, projectionWidth], transformers' image_embeds.
   *
   * @throws {DiffusionError} OUT_OF_MEMORY, DISPOSED; IO if weights are streamed and their file has changed
   */
  async encode(pixels: Tensor, options: CallOptions = {}): Promise<Tensor> {
    const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
    return this.#encode(pixels, undefined, signal)
  }

  /**
   * Preprocessed images to the hidden states [n, tokens, width] before the last `skip` layers, without the final norm.
   *
   * @param options.skip default: 1, the penultimate layer
   * @throws as encode()
   */
  async hiddenStates(pixels: Tensor, options: CallOptions & { skip?: number } = {}): Promise<Tensor> {
    const given = checkObject(options, 'options', ['signal', 'skip'])
    const skip = checkInteger(given.skip ?? Math.min(1, this.config.layers), 'skip', 0, this.config.layers)
    return this.#encode(pixels, skip, checkSignal(given.signal))
  }

  async #encode(pixels: Tensor, skip: number | undefined, signal: AbortSignal | undefined): Promise<Tensor> {
    const { imageSize, channels, patchSize, width, projectionWidth } = this.config
    const { data, shape } = copyTensor(pixels, 'pixels', [-1, channels, imageSize, imageSize])
    const [n] = shape
    const tokens = 1 + Math.floor(imageSize / patchSize) ** 2
    const outShape = skip === undefined ? [projectionWidth] : [tokens, width]
    const size = outShape.reduce((product, length) => product * length)
    requireMemory(4 * n * size, `The embeddings of ${n} images`)
    this.requireMemory(() => this.model.workingBytes(Math.min(n, IMAGES_AT_ONCE)), `Encoding ${n} images`)
    const out = new Float32Array(n * size)
    const pixelCount = channels * imageSize ** 2
    for (let first = 0; first < n; first += IMAGES_AT_ONCE) {
      const count = Math.min(IMAGES_AT_ONCE, n - first)
      const call = {
        images: data.subarray(first * pixelCount, (first + count) * pixelCount),
        n: count,
        ...(skip !== undefined && { skip }),
      }
      const part = await this.call(signal, (model, cancel) => model.encode(call, cancel))
      out.set(part, first * size)
    }
    return { data: out, shape: [n, ...outShape] }
  }

  /** Bytes of working memory that encoding so many images takes. */
  workingBytes(n = 1): number {
    return this.model.workingBytes(Math.min(checkInteger(n, 'n', 1, 1024), IMAGES_AT_ONCE))
  }
}
