import { types } from 'node:util'
import {
  checkNumber,
  checkObject,
  checkShape,
  checkSignal,
  checkTensor,
  copyTensor,
  expectation,
  isReadable,
  lengthOf,
} from '../check.js'
import { DiffusionError } from '../errors.js'
import { modelFolder } from '../package-root.js'
import { cancellable } from '../native-call.js'
import { native, type NativeVae } from '../native.js'
import type { DeviceName, Tensor } from '../types.js'
import type { ModelDescription } from '../models/model-description.js'
import {
  describeVae,
  Autoencoder,
  loadAlone,
  type AutoencoderOptions,
  type TiledCallOptions,
} from './autoencoder.js'
import type { CallOptions } from './component.js'

/** Codes of a batch of images: one for each latent pixel, in row-major order. */
export interface Codes {
  data: Int32Array
  /** [n, h, w] */
  shape: number[]
}

/** The result of VqModel.encode(). */
export interface VqEncoding {
  /** The encoder's output before quantization, [n, c, h, w]. */
  latents: Tensor
  /** The nearest code of each latent pixel. */
  indices: Codes
  /** The latents with each vector replaced by its nearest codebook vector; the decoder's input. */
  quantized: Tensor
}

/** VQ-VAE (van den Oord et al. 2017): an autoencoder whose latents are vectors of a codebook. */
export class VqModel extends Autoencoder {
  /** Number of codes and their width. */
  readonly codebook: Readonly<{ size: number; width: number }>

  private constructor(
    model: NativeVae,
    { config }: NonNullable<ModelDescription['vae']>,
    device: DeviceName,
  ) {
    super(model, config, config.blockChannels.length, 'VQ model', device)
    this.codebook = config.codebook!
  }

  /**
   * Loads a VQ model.
   *
   * @param path a model file or folder that contains a VQModel. Default: the small bundled one
   * @throws {DiffusionError} for the same reasons as DiffusionPipeline.load()
   */
  static async load(path: string = bundledVqModelPath(), options: AutoencoderOptions = {}): Promise<VqModel> {
    const open = async (local: string) => {
      const description = await describeVae(path, local)
      if (!description.config.codebook)
        throw new DiffusionError(
          'UNSUPPORTED_MODEL',
          `${path}: expected a VQModel but found an AutoencoderKL`,
        )
      return description
    }
    return loadAlone(path, options, open, async (description, { cuda, device }, { signal }) => {
      const { source, config } = description
      const placed = { ...source, device: cuda }
      const model = await cancellable(signal, (cancel) => native().loadVae(config, placed, cancel))
      return new VqModel(model, description, device)
    })
  }

  /** Encodes images [n, 3, h, w] in −1…1 to latents, codes and quantized latents. */
  async encode(image: Tensor, options: TiledCallOptions = {}): Promise<VqEncoding> {
    const given = checkObject(options, 'options', ['signal', 'tiling'])
    const signal = checkSignal(given.signal)
    const latents = await this.encodeRows(image, given)
    const indices = await this.quantize(latents, { signal })
    const quantized = await this.lookup(indices, { signal })
    return { latents, indices, quantized }
  }

  /** Finds the nearest codebook vector (by Euclidean distance) for each pixel of latents [n, c, h, w]. */
  async quantize(latents: Tensor, options: CallOptions = {}): Promise<Codes> {
    const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
    const { data: vectors, shape } = copyTensor(latents, 'latents', [-1, this.codebook.width, -1, -1])
    const [n, , h, w] = shape
    const data = await this.call(signal, (model, cancel) => model.quantize(vectors, n, h, w, cancel))
    return { data, shape: [n, h, w] }
  }

  /** Looks up the codebook vectors of codes. Returns latents [n, c, h, w]. */
  async lookup(codes: Codes, options: CallOptions = {}): Promise<Tensor> {
    const signal = checkSignal(checkObject(options, 'options', ['signal']).signal)
    const { size, width } = this.codebook
    const { data: indices, shape } = copyCodes(codes, size)
    const [n, h, w] = shape
    const data = await this.call(signal, (model, cancel) => model.lookup(indices, n, h, w, cancel))
    return { data, shape: [n, width, h, w] }
  }

  /** Decodes codes to images [n, 3, factor·h, factor·w]. Latents are quantized first. */
  async decode(from: Codes | Tensor, options: TiledCallOptions = {}): Promise<Tensor> {
    const given = checkObject(options, 'options', ['signal', 'tiling'])
    const signal = checkSignal(given.signal)
    const codes =
      isReadable(from) && types.isInt32Array(from.data)
        ? (from as Codes)
        : await this.quantize(from as Tensor, { signal })
    return this.decodeRows(await this.lookup(codes, { signal }), this.codebook.width, given)
  }
}

/** The folder of the bundled VQ-VAE: 64×64 images, 16×16 codes from a codebook of 1,024. */
export function bundledVqModelPath(): string {
  return modelFolder('emoji-64-vq')
}

function copyCodes(codes: unknown, size: number): Codes {
  const expected = 'codes { data: Int32Array, shape: [n, h, w] }'
  if (!isReadable(codes)) throw new TypeError(expectation(expected, 'codes', codes))
  const { data: given, shape: asked } = codes as Codes
  if (!types.isInt32Array(given)) throw new TypeError(expectation(expected, 'codes', codes))
  const shape = checkShape(asked, 'codes.shape')
  const data = lengthOf(given) === 0 ? new Int32Array(0) : new Int32Array(given)
  if (shape.length !== 3) {
    throw new RangeError(`Expected shape [n, h, w] for codes but received [${shape.join(', ')}]`)
  }
  const [n, h, w] = shape
  if (data.length !== n * h * w) {
    throw new RangeError(`Expected ${n * h * w} elements for codes.data but received ${data.length}`)
  }
  for (const code of data)
    if (code < 0 || code >= size)
      throw new RangeError(expectation(`codes between 0 and ${size - 1}`, 'codes', code))
  return { data, shape }
}

/** The three terms of the VQ-VAE's training objective, and their sum. */
export interface VqLosses {
  /** Mean squared error of the reconstruction. */
  reconstruction: number
  /** ‖sg[z_e] − e‖²: moves the codebook vectors towards the encoder's output. */
  codebook: number
  /** β·‖z_e − sg[e]‖²: keeps the encoder's output close to the codebook vectors. */
  commitment: number
  total: number
}

/**
 * The training objective of van den Oord et al. 2017 ("Neural Discrete Representation Learning", eq. 3), each term
 * averaged over its elements. The codebook and commitment terms have different gradients, but their values differ
 * only by the factor β.
 *
 * @param terms.encoded the encoder's latents
 * @param terms.quantized the codebook vectors that replace them
 * @param terms.commitment β. Default: 0.25
 * @throws {TypeError} if a value has the wrong type
 * @throws {RangeError} if shapes differ
 */
export function vqLosses(terms: {
  image: Tensor
  reconstruction: Tensor
  encoded: Tensor
  quantized: Tensor
  commitment?: number
}): VqLosses {
  const given = checkObject(terms, 'terms', ['image', 'reconstruction', 'encoded', 'quantized', 'commitment'])
  const beta = checkNumber(given.commitment ?? 0.25, 'commitment', 0, Number.MAX_VALUE)
  const image = checkTensor(given.image, 'image')
  const encoded = checkTensor(given.encoded, 'encoded')
  const reconstruction = meanSquare(image, checkTensor(given.reconstruction, 'reconstruction', image.shape))
  const codebook = meanSquare(encoded, checkTensor(given.quantized, 'quantized', encoded.shape))
  const commitment = beta * codebook
  return { reconstruction, codebook, commitment, total: reconstruction + codebook + commitment }
}

function meanSquare(a: Tensor, b: Tensor): number {
  let sum = 0
  for (let i = 0; i < a.data.length; i++) sum += (a.data[i] - b.data[i]) ** 2
  return sum / a.data.length
}
