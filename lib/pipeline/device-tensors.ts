/**
 * The tensors of a denoising run on a GPU: latents, predictions and what the scheduler remembers stay in its memory from step
 * to step. Arithmetic is written down here, and the next prediction computes it first, in a kernel or two.
 */
import { cancellable } from '../native-call.js'
import type { NativeResidentTensors, ResidentCall, ResidentProgram } from '../native.js'
import { RemoteTensor } from '../remote-tensor.js'
import type { Tensor } from '../types.js'
import { broadcast } from './tensors.js'

/** Numbers of the tensors that a prediction reads and writes; with guidance it also writes the next one or two. */
const INPUT = 0
const PREDICTION = 1
const RESERVED = 4

/** More than a run has at once; a mask needs itself, the image, its noise, the noised image and the blended latents more. */
export const MOST_TENSORS = 24
export const MOST_OF_MASK = 5

/** In the order of nd::ResidentOperation. */
const kinds = ['combine', 'guide', 'clamp', 'rescale', 'blend', 'edit'] as const
const checks = ['nothing', 'prediction', 'latents'] as const

interface Operation {
  kind: (typeof kinds)[number]
  check: (typeof checks)[number]
  out: number
  terms: (readonly [factor: number, tensor: number])[]
}

/** A tensor on a device: its number there. */
export class DeviceTensor extends RemoteTensor {
  constructor(
    readonly home: DeviceTensors,
    readonly number: number,
    shape: number[],
  ) {
    super(shape)
  }

  combine(terms: readonly (readonly [number, Tensor])[]): DeviceTensor {
    return this.home.add(
      'combine',
      terms.map(([factor, tensor]) => [factor, this.home.put(tensor).number]),
    )
  }

  clamp(limit: number): DeviceTensor {
    return this.home.add('clamp', [[limit, this.home.put(this).number]])
  }

  blend(outside: Tensor, mask: Tensor): DeviceTensor {
    const tensors = [outside, this, mask]
    return this.home.add(
      'blend',
      tensors.map((tensor) => [1, this.home.put(tensor).number]),
    )
  }

  /** This must be a prediction of both halves. */
  guide(scale: number, rescale: number): DeviceTensor {
    const [unconditional, conditional] = [this.number, this.number + 1]
    const guided = this.home.add(
      'guide',
      [
        [scale, unconditional],
        [1, conditional],
      ],
      'prediction',
    )
    return this.home.rescaled(guided, conditional, rescale)
  }

  /** This must be a prediction with both, the image alone and neither. */
  guideEdit(scale: number, imageScale: number, rescale: number): DeviceTensor {
    const guided = this.home.add(
      'edit',
      [
        [scale, this.number],
        [imageScale, this.number + 1],
        [1, this.number + 2],
      ],
      'prediction',
    )
    return this.home.rescaled(guided, this.number, rescale)
  }

  repeat(times: number): DeviceTensor {
    const [n, ...rest] = this.shape
    return new DeviceTensor(this.home, this.number, [times * n, ...rest])
  }
}

/** All tensors of one run. */
export class DeviceTensors {
  #uploads: ResidentProgram['uploads'] = []
  #further?: Float32Array
  #operations: Operation[] = []
  /** Tensors in use by number; numbers that were given up, but may be in what is written down; and those that are free. */
  readonly #used = new Map<number, DeviceTensor>()
  #released: number[] = []
  readonly #free: number[] = []
  #culprit?: 'UNet' | 'scheduler'

  /**
   * @param shape of the latents, and so of every tensor
   * @param further input channels of all rows of a prediction with guidance
   */
  constructor(
    readonly native: NativeResidentTensors,
    readonly shape: readonly number[],
    further?: Tensor,
  ) {
    this.#further = further?.data
  }

  /** The part of the run that first gave numbers that are not finite, as far as fetch() has seen. */
  get culprit(): 'UNet' | 'scheduler' | undefined {
    return this.#culprit
  }

  /**
   * The tensor on the device. One that is here is uploaded, with a batch or channel of one for each of the latents'.
   *
   * @throws {TypeError} a tensor that was given up: its memory may hold another by now
   */
  put(tensor: Tensor): DeviceTensor {
    if (tensor instanceof DeviceTensor) {
      const { home, number } = tensor
      if (home === this && (number < RESERVED || this.#used.get(number) === tensor)) return tensor
      throw new TypeError(
        'Expected a tensor that the scheduler remembers in a field but received one of an earlier step',
      )
    }
    const made = this.#make()
    this.#uploads.push({ tensor: made.number, values: broadcast(tensor, this.shape).data })
    return made
  }

  /** Writes an operation down. */
  add(
    kind: Operation['kind'],
    terms: Operation['terms'],
    check: Operation['check'] = 'nothing',
  ): DeviceTensor {
    const made = this.#make()
    this.#operations.push({ kind, check, out: made.number, terms })
    return made
  }

  /** A guided prediction as guide() rescales it. */
  rescaled(guided: DeviceTensor, conditional: number, rescale: number): DeviceTensor {
    if (rescale === 0) return guided
    return this.add('rescale', [
      [rescale, conditional],
      [1, guided.number],
    ])
  }

  /** What a prediction of `latents` is to compute first. */
  call({ number }: DeviceTensor): ResidentCall {
    this.#operations.push({ kind: 'combine', check: 'nothing', out: INPUT, terms: [[1, number]] })
    return { tensors: this.native, program: this.#take() }
  }

  /** The prediction that has been made, of `rows` images. */
  prediction(rows: number): DeviceTensor {
    if (rows === this.shape[0]) return this.add('combine', [[1, PREDICTION]], 'prediction')
    return new DeviceTensor(this, PREDICTION, [rows, ...this.shape.slice(1)])
  }

  /** Has latents, which the scheduler has just computed, looked at for numbers that are not finite. */
  checkLatents(latents: Tensor): void {
    const made = this.#operations.find(({ out }) => out === numberOf(latents))
    if (made) made.check = 'latents'
  }

  /** Ends a step: gives up all tensors but the latents, and those that the scheduler and other objects remember. */
  endStep(latents: Tensor, ...rememberedBy: (object | undefined)[]): void {
    const kept = new Set([latents, ...remoteTensors(rememberedBy)].map(numberOf))
    for (const number of this.#used.keys()) {
      if (kept.has(number)) continue
      this.#used.delete(number)
      this.#released.push(number)
    }
  }

  /** Copies of tensors here, after everything that was written down. Those that are here are not copied. */
  async fetch(tensors: readonly Tensor[], signal: AbortSignal): Promise<Tensor[]> {
    const numbers = [...new Set(tensors.map(numberOf).filter((number) => number !== undefined))]
    const call = { program: this.#take(), tensors: numbers }
    const { data, badPrediction, badLatents } = await cancellable(signal, (cancel) =>
      this.native.read(call, cancel),
    )
    if (badPrediction > 0 && (badLatents === 0 || badPrediction <= badLatents)) this.#culprit ??= 'UNet'
    else if (badLatents > 0) this.#culprit ??= 'scheduler'
    const size = data.length / Math.max(numbers.length, 1)
    const copies = new Map(
      numbers.map((number, i) => [
        number,
        { data: data.slice(i * size, (i + 1) * size), shape: [...this.shape] },
      ]),
    )
    return tensors.map((tensor) => copies.get(numberOf(tensor) ?? -1) ?? tensor)
  }

  /** Frees the memory, once no call uses it. */
  async dispose(): Promise<void> {
    await this.native.dispose()
  }

  #make(): DeviceTensor {
    const number = this.#free.pop() ?? RESERVED + this.#used.size + this.#released.length
    const made = new DeviceTensor(this, number, [...this.shape])
    this.#used.set(number, made)
    return made
  }

  #take(): ResidentProgram {
    const operations = this.#operations.flatMap(({ kind, check, out, terms }) => [
      kinds.indexOf(kind),
      checks.indexOf(check),
      out,
      terms.length,
      ...terms.flat(),
    ])
    const program: ResidentProgram = {
      uploads: this.#uploads,
      operations: Float64Array.from(operations),
      ...(this.#further && { further: this.#further }),
    }
    this.#uploads = []
    this.#further = undefined
    this.#operations = []
    this.#free.push(...this.#released)
    this.#released = []
    return program
  }
}

function numberOf(tensor: Tensor): number | undefined {
  return tensor instanceof DeviceTensor ? tensor.number : undefined
}

/** Whether the numbers of a tensor have changed since this call. */
export function watchNumbers(tensor: Tensor): () => boolean {
  const { data } = tensor
  const before = data.slice()
  return () => tensor.data !== data || !bytesOf(data).equals(bytesOf(before))
}

function bytesOf({ buffer, byteOffset, byteLength }: Float32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength)
}

/** The tensors on a device among the fields of an object, and of the objects in them: what a scheduler remembers. */
function* remoteTensors(value: unknown, seen = new Set<unknown>()): Iterable<DeviceTensor> {
  if (value instanceof DeviceTensor) yield value
  if (typeof value !== 'object' || value === null || value instanceof RemoteTensor) return
  if (ArrayBuffer.isView(value) || seen.has(value)) return
  seen.add(value)
  const isCollection = value instanceof Map || value instanceof Set
  for (const field of isCollection ? value.values() : Object.values(value)) yield* remoteTensors(field, seen)
}
