import { checkTensor, expectation, isReadable } from '../check.js'
import { received } from '../quote.js'
import type { Random, Scheduler, Tensor } from '../types.js'
import { combine, sizeOf } from './tensors.js'

/** Timesteps may differ by this much from those of the list, because float32 rounds them. */
const TIMESTEP_TOLERANCE = 1e-3

/**
 * The common part of all sampling methods: the position in the schedule, the source of noise, and checks of arguments.
 */
export abstract class SchedulerBase implements Scheduler {
  abstract readonly timesteps: Float64Array
  abstract readonly sigmas: Float64Array
  abstract readonly initNoiseSigma: number

  /** Number of UNet calls for each step; runs can begin at multiples of it. */
  readonly order: number = 1

  /** The last step's estimate of the clean latents. */
  denoised?: Tensor

  /** Index of the current timestep; −1 before the first call. */
  protected index = -1
  private random: Random | undefined

  /**
   * Starts a run with an empty history at the timestep of index `begin`. If that is the length of the list, no step is
   * left.
   *
   * @throws {TypeError} `begin` is not an integer
   * @throws {RangeError} no run can begin there
   */
  reset(options: { random: Random; begin: number }): void {
    if (!isReadable(options)) throw new TypeError(expectation('object', 'options', options))
    const { random, begin } = options
    if (!isReadable(random) || typeof random.normal !== 'function')
      throw new TypeError(expectation('Random', 'random', random))
    if (typeof begin !== 'number' || !Number.isInteger(begin)) {
      throw new TypeError(`Expected integer for begin but received ${received(begin)}`)
    }
    const end = this.timesteps.length
    if (begin < 0 || begin > end) {
      throw new RangeError(`Expected integer between 0 and ${end} for begin but received ${begin}`)
    }
    if (begin < end && !this.canBeginAt(begin)) {
      throw new RangeError(
        `Expected begin to be the first UNet call of a step (a multiple of ${this.order}) but received ${begin}`,
      )
    }
    this.random = random
    this.index = begin
    this.denoised = undefined
    this.forget()
  }

  scaleModelInput(latents: Tensor, timestep: number): Tensor {
    this.locate(timestep)
    return this.scaled(checkTensor(latents, 'latents'))
  }

  step(prediction: Tensor, timestep: number, latents: Tensor): Tensor {
    this.locate(timestep)
    prediction = checkTensor(prediction, 'prediction')
    latents = checkTensor(latents, 'latents')
    if (sizeOf(prediction) !== sizeOf(latents)) {
      throw new RangeError(
        `Expected prediction of the latents' shape [${latents.shape.join(', ')}] ` +
          `but received [${prediction.shape.join(', ')}]`,
      )
    }
    const next = this.advance(prediction, latents)
    this.index++
    return next
  }

  addNoise(latents: Tensor, noise: Tensor, timestep: number): Tensor {
    latents = checkTensor(latents, 'latents')
    noise = checkTensor(noise, 'noise')
    checkTimestep(timestep)
    if (sizeOf(noise) !== sizeOf(latents)) {
      throw new RangeError(
        `Expected noise of the latents' shape [${latents.shape.join(', ')}] but received [${noise.shape.join(', ')}]`,
      )
    }
    const [signal, sigma] = this.noising(timestep)
    return combine([signal, latents], [sigma, noise])
  }

  /** Computes the step at the current index; returns new latents and sets `denoised`. */
  protected abstract advance(prediction: Tensor, latents: Tensor): Tensor

  /** Factors of the clean latents and of the noise at `timestep`. */
  protected abstract noising(timestep: number): [signal: number, sigma: number]

  protected scaled(latents: Tensor): Tensor {
    return latents
  }

  /** Clears the history of earlier steps. */
  protected forget(): void {}

  protected canBeginAt(index: number): boolean {
    return index % this.order === 0
  }

  /** Whether this is the last UNet call of the run. */
  protected get last(): boolean {
    return this.index === this.timesteps.length - 1
  }

  protected noise(shape: readonly number[]): Tensor {
    if (!this.random) {
      throw new TypeError('This scheduler adds noise: call reset({ random, begin }) before the first step')
    }
    return this.random.normal(shape)
  }

  /** The index of a timestep: the current index if it matches, otherwise the first that does, or −1. */
  protected find(timestep: number): number {
    if (this.matches(this.index, timestep)) return this.index
    return this.timesteps.findIndex((_, i) => this.matches(i, timestep))
  }

  private matches(index: number, timestep: number): boolean {
    return Math.abs(this.timesteps[index] - timestep) <= TIMESTEP_TOLERANCE
  }

  /** Checks that `timestep` is the current one. */
  private locate(timestep: number): void {
    checkTimestep(timestep)
    if (this.index < 0) {
      this.index = this.find(timestep)
      if (this.index >= 0) return
      throw new RangeError(`Expected one of the scheduler's timesteps but received ${timestep}`)
    }
    if (this.index >= this.timesteps.length) {
      throw new RangeError('The schedule has ended: call reset({ random, begin }) to run it again')
    }
    if (!this.matches(this.index, timestep)) {
      throw new RangeError(
        `Expected timestep ${this.timesteps[this.index]} (number ${this.index}) but received ${timestep}`,
      )
    }
  }
}

function checkTimestep(value: unknown): void {
  if (typeof value !== 'number') throw new TypeError(expectation('number', 'timestep', value))
}
