/**
 * The ControlNets, ControlLLLites and T2I-Adapters of one run: its pictures, residuals and features, which stay in the
 * engine.
 */
import {
  native,
  type ControlCall,
  type KeptTensors,
  type NativeConditioning,
  type NativeFeatures,
  type NativeInputs,
} from '../native.js'
import { guidesAt, type ControlRequest, type GenerateRequest } from '../options/index.js'
import type { Tensor } from '../types.js'
import type { Conditioning, EmbeddedConditioning } from './conditioning.js'
import { conditioningRows } from './conditioning.js'
import { ControlLllite } from './control-lllite.js'
import { ControlNet } from './control-net.js'
import { DeviceTensor } from './device-tensors.js'
import type { T2iAdapter } from './t2i-adapter.js'
import { rows } from './tensors.js'

/** What `controlNets` of load() stands for. */
export type ControlModel = ControlNet | ControlLllite | T2iAdapter

interface Control<Model = ControlModel> extends ControlRequest {
  model: Model
  /** The embedded picture of a ControlNet or ControlLLLite, or the features of a T2I-Adapter. */
  picture: KeptTensors
}

const ofControlNet = (control: Control): control is Control<ControlNet> => control.model instanceof ControlNet

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
    models: readonly ControlModel[],
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
        await (model instanceof ControlNet
          ? model.embed(pictures[i], picture, run.#controls[i], { signal })
          : model.embed(pictures[i], picture, { signal }))
      return run
    } catch (error) {
      await run.dispose()
      throw error
    }
  }

  /** Computes ahead what depends on these timesteps, as Unet.prepare(). */
  async prepare(timesteps: readonly number[], embedded: EmbeddedConditioning): Promise<void> {
    const done = new Set<string>()
    for (const group of groups(this.#controls.filter(ofControlNet))) {
      const [{ model, net }] = group
      const key = [net, typesOf(group)].join(';')
      if (done.has(key)) continue
      done.add(key)
      const { conditions, rows: m } = embeddedFor(group, embedded, timesteps.length)
      const n = timesteps.length * m
      const repeated = Float32Array.from({ length: n }, (_, i) => timesteps[Math.floor(i / m)])
      await model.prepare(
        { conditioning: { timesteps: repeated, ...conditions }, n },
        { signal: this.#signal },
      )
    }
  }

  /** Names the controls that guide UNet call `index` of `count`; '' for none. */
  active(index: number, count: number): string {
    return this.#activeAt(index, count)
      .map((control) => this.#controls.indexOf(control))
      .join()
  }

  /**
   * What they add in UNet call `index` of `count`.
   *
   * @param latents of all rows of the batch, without further input channels
   */
  async added(
    latents: Tensor,
    timestep: number,
    conditioning: Conditioning,
    conditional: ConditionalRows,
    [index, count]: readonly [number, number],
  ): Promise<{ residuals?: KeptTensors; features?: NativeFeatures[]; inputs?: NativeInputs[] }> {
    const [total, , h, w] = latents.shape
    const all = this.#activeAt(index, count)
    const active = groups(all.filter(ofControlNet))
    for (const [i, group] of active.entries()) {
      const [{ model, guess, scale, weights }] = group
      const [first, n] = guessedRows(guess, conditional, total)
      const seen = guess ? conditioningRows(conditioning, first, first + n) : conditioning
      const { context, ...embedded } = seen
      const call: ControlCall = {
        // On a device, any rows repeat the latents.
        ...(latents instanceof DeviceTensor
          ? { resident: latents.home.call(latents) }
          : { latents: rows(latents, first, first + n).data }),
        n,
        h,
        w,
        conditioning: {
          timesteps: new Float32Array(n).fill(timestep),
          context: context.data,
          contextLength: context.shape[1],
          ...embeddedFor(group, embedded, 1).conditions,
        },
        pictures: group.map((control) => ({ kept: control.picture, scale: control.scale })),
        // Pictures that are seen together are scaled before they are, each by its own scale.
        scales: group.length > 1 ? weights : weights.map((weight) => weight * scale),
        to: this.#residuals,
        first,
        total,
        replaces: i === 0,
      }
      await model.predict(call, { signal: this.#signal })
    }
    const features: NativeFeatures[] = []
    const inputs: NativeInputs[] = []
    for (const { model, picture, scale, weights, guess } of all) {
      const [first, count] = guessedRows(guess, conditional, total)
      if (model instanceof ControlLllite) inputs.push(model.inputs(picture, scale, first, count))
      else if (!(model instanceof ControlNet)) {
        const scales = weights.map((weight) => weight * scale)
        features.push({ kept: picture, scales, scaleCount: scales.length, first, count })
      }
    }
    return {
      ...(inputs.length > 0 && { inputs }),
      ...(active.length > 0 && { residuals: this.#residuals }),
      ...(features.length > 0 && { features }),
    }
  }

  #activeAt(index: number, count: number): Control[] {
    return this.#controls.filter((control) => guidesAt(control, index, count))
  }

  async trim(): Promise<void> {
    for (const { model } of this.#controls) await model.trim()
  }

  async dispose(): Promise<void> {
    const kept = [this.#residuals, ...this.#controls.map(({ picture }) => picture)]
    await Promise.all(kept.map(async (tensors) => tensors.dispose()))
  }
}

/**
 * What one prediction of a ControlNet sees: one control, or all of a union ControlNet that guide the same rows with the
 * same weights.
 */
function groups(controls: readonly Control<ControlNet>[]): Control<ControlNet>[][] {
  const found = new Map<string, Control<ControlNet>[]>()
  for (const [i, control] of controls.entries()) {
    const { model, net, guess, weights } = control
    const key = model.types > 0 ? `union ${net} ${guess} ${weights.join()}` : String(i)
    const group = found.get(key)
    if (group) group.push(control)
    else found.set(key, [control])
  }
  return [...found.values()]
}

/** 1 for each kind of picture that is in the group, else 0. */
function typesOf([first, ...more]: readonly Control<ControlNet>[]): Float32Array {
  const types = new Float32Array(first.model.types)
  for (const { type } of [first, ...more]) if (type !== undefined) types[type] = 1
  return types
}

/** The rows that a control guides: with guess mode, those of the conditional prediction alone. */
function guessedRows(
  guess: boolean,
  { first, count }: ConditionalRows,
  total: number,
): [first: number, n: number] {
  return guess ? [first, count] : [0, total]
}

/** Memory in bytes that the controls of a run take for `batch` rows, while the UNet has its own. */
export function controlBytes(
  models: readonly ControlModel[],
  { controls, count, width, height }: Pick<GenerateRequest, 'controls' | 'count' | 'width' | 'height'>,
  batch: number,
  contextLength: number,
): number {
  let kept = 0
  let residuals = 0
  const working = new Map<number, number>()
  for (const { net } of controls) {
    const model = models[net]
    const pictures = Math.min(count, batch)
    if (model instanceof ControlLllite) {
      const memory = model.memory(pictures, height, width, batch)
      kept += memory.kept
      working.set(net, Math.max(memory.embedding, memory.forward))
      continue
    }
    if (!(model instanceof ControlNet)) {
      const memory = model.memory(pictures, height, width)
      kept += memory.features
      working.set(net, memory.working)
      continue
    }
    const [h, w] = [height / model.factor, width / model.factor]
    const memory = model.memory(batch, h, w, contextLength, pictures)
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
  group: readonly Control<ControlNet>[],
  { pooled, timeIds }: EmbeddedConditioning,
  times: number,
): {
  conditions: Pick<NativeConditioning, 'pooled' | 'pooledWidth' | 'timeIds' | 'timeIdCount' | 'controlTypes'>
  rows: number
} {
  const [{ model }] = group
  if (!model.config.unet.added || !pooled || !timeIds) return { conditions: {}, rows: 1 }
  return {
    conditions: {
      ...(model.types > 0 && { controlTypes: repeat(typesOf(group), times * pooled.shape[0]) }),
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
