import { RemoteTensor } from '../remote-tensor.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'

/** Elements that are looked at before the event loop may take its turn. */
const ELEMENTS_AT_ONCE = 1 << 20

const OVERFLOW = 'its weights overflow in this precision, try precision f32'

/** The parts of a run in their order, and what their numbers that are not finite mean. */
const MEANINGS = {
  promptEmbeds: 'The promptEmbeds hold numbers that are not finite',
  latents: 'The latents that were given hold numbers that are not finite',
  image: 'The image that was given holds numbers that are not finite',
  depth: 'The depth map that was given holds numbers that are not finite',
  'text encoder': `The text encoder gave numbers that are not finite: ${OVERFLOW}`,
  'image encoder': `The autoencoder's encoder gave numbers that are not finite: ${OVERFLOW}`,
  imageEmbeds: 'The imageEmbeds hold numbers that are not finite',
  'image embedding': `The image encoder gave numbers that are not finite: ${OVERFLOW}`,
  UNet: `The UNet gave numbers that are not finite: ${OVERFLOW}`,
  scheduler:
    'The scheduler gave numbers that are not finite: it, guidanceScale and the model do not work together',
  decoder: `The autoencoder's decoder gave numbers that are not finite: ${OVERFLOW}, or another autoencoder`,
} as const

export type Part = keyof typeof MEANINGS

/** Finds the part of a run that first gave NaN or infinity. Everything that is computed from them is spoiled, too. */
export class FiniteNumbers {
  #culprit?: Part

  constructor(private readonly slice: TimeSlice) {}

  /** Looks at what a part gave, unless an earlier part is to blame already. A device looks at its tensors by itself. */
  async check(part: Part, tensor: Tensor): Promise<void> {
    if (this.#culprit || tensor instanceof RemoteTensor) return
    const { data } = tensor
    for (let begin = 0; begin < data.length; begin += ELEMENTS_AT_ONCE) {
      if (!allFinite(data.subarray(begin, begin + ELEMENTS_AT_ONCE))) this.blame(part)
      await this.slice.pause()
    }
  }

  blame(part: Part): void {
    this.#culprit ??= part
  }

  get warnings(): string[] {
    return this.#culprit === undefined ? [] : [MEANINGS[this.#culprit]]
  }
}

function allFinite(data: Float32Array): boolean {
  // NaN and infinity times zero are NaN, and NaN stays NaN in a sum.
  let zero = 0
  for (let i = 0; i < data.length; i++) zero += data[i] * 0
  return zero === 0
}
