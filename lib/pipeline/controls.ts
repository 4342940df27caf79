/** The ControlNets of one run: its pictures and residuals, which stay in the engine. */
import { native, type ControlCall, type KeptTensors, type NativeConditioning } from '../native.js'
import type { ControlRequest, GenerateRequest } from '../options/index.js'
import type { Tensor } from '../types.js'
import type { Conditioning, EmbeddedConditioning } from './conditioning.js'
import { conditioningRows } from './conditioning.js'
import type { ControlNet } from './control-net.js'
import { rows } from './tensors.js'

interface Control extends ControlRequest {
  model: ControlNet
  picture: KeptTensors
}

/** Which rows of a batch are those of the conditional prediction. */
export interface ConditionalRows {
  first: number
  count: number
}

export class Controls {
  readonly #controls: Control[]
  readonly #residuals: KeptTensors
  readonly #signal: AbortSignal

  private constructor(controls: Control[], signal: AbortSignal) {
    this.#controls = controls
    this.#residuals = new (native().KeptTensors)()
    this.#signal = signal
  }

  /** Embeds the pictures [n, 3, h, w] of 0…1, one for each element of request.controls. */
  static async start(
    models: readonly ControlNet[],
    { controls }: GenerateRequest,
    pictures: readonly Tensor[],
    signal: AbortSignal,
  ): Promise<Controls> {
    const run = new Controls(
      controls.map((control) => ({
        ...control,
        model: models[control.net],
        picture: new (native().KeptTensors)(),
      })),
      signal,
    )
    try {
      for (const [i, { model, picture }] of run.#controls.entries())
        await model.embed(model.bgr ? reversed(pictures[i]) : pictures[i], picture, { signal })
      return run
    } catch (error) {
      run.dispose()
      throw error
    }
  }

  /** Computes ahead what depends on these timesteps, as Unet.prepare(). */
  async prepare(timesteps: readonly number[], embedded: EmbeddedConditioning): Promise<void> {
    for (const model of new Set(this.#controls.map(({ model }) => model))) {
      const { conditions, rows: m } = embeddedFor(model, embedded, timesteps.length)
      const n = timesteps.length * m
      const repeated = Float32Array.from({ length: n }, (_, i) => timesteps[Math.floor(i / m)])
      await model.prepare(
        { conditioning: { timesteps: repeated, ...conditions }, n },
        { signal: this.#signal },
      )
    }
  }

  /** Names the ControlNets that guide UNet call `index` of `count`; '' for none. */
  active(index: number, count: number): string {
    return this.#activeAt(index, count)
      .map((control) => this.#controls.indexOf(control))
      .join()
  }

  /**
   * What the ControlNets add in UNet call `index` of `count`; undefined: nothing.
   *
   * @param latents of all rows of the batch, without further input channels
   */
  async residuals(
    latents: Tensor,
    timestep: number,
    conditioning: Conditioning,
    conditional: ConditionalRows,
    [index, count]: readonly [number, number],
  ): Promise<KeptTensors | undefined> {
    const [total, , h, w] = latents.shape
    const active = this.#activeAt(index, count)
    for (const [i, control] of active.entries()) {
      const { model, guess, scale, weights, picture } = control
      const [first, n] = guess ? [conditional.first, conditional.count] : [0, total]
      const seen = guess ? conditioningRows(conditioning, first, first + n) : conditioning
      const { context, ...embedded } = seen
      const call: ControlCall = {
        latents: rows(latents, first, first + n).data,
        n,
        h,
        w,
        conditioning: {
          timesteps: new Float32Array(n).fill(timestep),
          context: context.data,
          contextLength: context.shape[1],
          ...embeddedFor(model, embedded, 1).conditions,
        },
        picture,
        scales: weights.map((weight) => weight * scale),
        to: this.#residuals,
        first,
        total,
        replaces: i === 0,
      }
      await model.predict(call, { signal: this.#signal })
    }
    return active.length > 0 ? this.#residuals : undefined
  }

  /** As diffusers' controlnet_keep. */
  #activeAt(index: number, count: number): Control[] {
    return this.#controls.filter(({ start, end }) => index / count >= start && (index + 1) / count <= end)
  }

  async trim(): Promise<void> {
    for (const { model } of this.#controls) await model.trim()
  }

  dispose(): void {
    this.#residuals.dispose()
    for (const { picture } of this.#controls) picture.dispose()
  }
}

/** Memory in bytes that the ControlNets of a run take for `batch` rows, while the UNet has its own. */
export function controlBytes(
  models: readonly ControlNet[],
  { controls, count, width, height }: Pick<GenerateRequest, 'controls' | 'count' | 'width' | 'height'>,
  batch: number,
  contextLength: number,
): number {
  let kept = 0
  let residuals = 0
  const working = new Map<number, number>()
  for (const { net } of controls) {
    const model = models[net]
    const [h, w] = [height / model.factor, width / model.factor]
    const memory = model.memory(batch, h, w, contextLength, Math.min(count, batch))
    kept += memory.pictures
    residuals = memory.residuals
    working.set(net, memory.working)
  }
  // Each picture as floats, until it has been embedded.
  return (
    kept +
    residuals +
    [...working.values()].reduce((sum, bytes) => sum + bytes, 0) +
    controls.length * 12 * width * height
  )
}

/** What a ControlNet embeds with the timestep, for the native call; and the number of its rows. */
function embeddedFor(
  { config }: ControlNet,
  { pooled, timeIds }: EmbeddedConditioning,
  times: number,
): {
  conditions: Pick<NativeConditioning, 'pooled' | 'pooledWidth' | 'timeIds' | 'timeIdCount'>
  rows: number
} {
  if (!config.unet.added || !pooled || !timeIds) return { conditions: {}, rows: 1 }
  return {
    conditions: {
      pooled: repeat(pooled.data, times),
      pooledWidth: pooled.shape[1],
      timeIds: repeat(timeIds.data, times),
      timeIdCount: timeIds.shape[1],
    },
    rows: pooled.shape[0],
  }
}

function repeat(data: Float32Array, times: number): Float32Array {
  if (times === 1) return data
  const out = new Float32Array(data.length * times)
  for (let i = 0; i < times; i++) out.set(data, i * data.length)
  return out
}

/** Blue, green, red. */
function reversed({ data, shape }: Tensor): Tensor {
  const plane = shape[2] * shape[3]
  const out = new Float32Array(data.length)
  for (let i = 0; i < shape[0]; i++)
    for (let c = 0; c < 3; c++)
      out.set(data.subarray((3 * i + c) * plane, (3 * i + c + 1) * plane), (3 * i + 2 - c) * plane)
  return { data: out, shape }
}
