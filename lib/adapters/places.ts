import type { ModelDescription } from '../models/index.js'
import { originalUnetStems } from '../models/names/unet.js'
import type { TensorEntry } from '../native.js'
import type { Component, Group } from './groups.js'

/** A layer of the model: its stored tensors by what follows the layer's name ('weight', 'bias'). */
export type Place = ReadonlyMap<string, TensorEntry>

/** The layers of a model's components by their names with underscores for dots, in every naming convention. */
export class Places {
  readonly #components = new Map<Component, Map<string, Place>>()

  constructor({ unet, textEncoders }: Pick<ModelDescription, 'unet' | 'textEncoders'>) {
    if (unet) {
      const places = byStem(unet.source.tensors)
      const keys = withUnderscores(places)
      for (const [stem, original] of originalUnetStems(places.keys()))
        keys.set(original.replaceAll('.', '_'), places.get(stem)!)
      this.#components.set('unet', keys)
    }
    for (const [i, { source }] of textEncoders.slice(0, 2).entries()) {
      const keys = withUnderscores(byStem(source.tensors))
      for (const [key, place] of Array.from(keys)) keys.set(`text_model_${key}`, place)
      this.#components.set(i === 0 ? 'text-1' : 'text-2', keys)
    }
  }

  /** The layer that a group of tensors changes, if the model has it. */
  find({ component, key }: Group): { component: Component; tensors: Place } | undefined {
    // Processors of diffusers call the output projection to_out, layers to_out.0.
    for (const name of [key, `${key}_0`]) {
      const components = component ? [component] : (['unet', 'text-1', 'text-2'] as const)
      for (const one of components) {
        const tensors = this.#components.get(one)?.get(name)
        if (tensors) return { component: one, tensors }
      }
    }
    return undefined
  }
}

function byStem(tensors: readonly TensorEntry[]): Map<string, Place> {
  const places = new Map<string, Map<string, TensorEntry>>()
  for (const tensor of tensors) {
    const dot = tensor.name.lastIndexOf('.')
    const stem = tensor.name.slice(0, dot)
    let place = places.get(stem)
    if (!place) places.set(stem, (place = new Map<string, TensorEntry>()))
    place.set(tensor.name.slice(dot + 1), tensor)
  }
  return places
}

function withUnderscores(places: Map<string, Place>): Map<string, Place> {
  return new Map([...places].map(([stem, place]) => [stem.replaceAll('.', '_'), place]))
}
