/** Runs a case of the fixtures in the engine as the public classes do: openModel(), then the addon. */
import {
  native,
  type NativeTextEncoder,
  type NativeUnet,
  type NativeVae,
  type Precision,
} from '../../lib/native.js'
import { openModel } from '../../lib/models/index.js'
import type { ModelDescription } from '../../lib/models/model-description.js'
import { floats, has, integers, tensor, type Case, type GoldenTensor } from './fixtures.js'

interface Models {
  unet: NativeUnet
  vae: NativeVae
  text_encoder: NativeTextEncoder
}

/**
 * Loads one component of the model at `path`. The default precision is float32, as in the references: 'auto' would
 * multiply 16-bit weights as bfloat16.
 */
export async function load<K extends keyof Models>(
  path: string,
  component: K,
  precision: Precision = 'f32',
): Promise<Models[K] & { skip: number }> {
  const model: ModelDescription = await openModel(path)
  const { unet, vae, textEncoders } = model
  const [textEncoder] = textEncoders
  for (const part of [unet, vae, textEncoder]) if (part) part.source.precision = precision
  const missing = () => new Error(`${path} has no ${component}`)
  let loaded: NativeUnet | NativeVae | NativeTextEncoder
  if (component === 'unet') {
    if (!unet) throw missing()
    loaded = await native().loadUnet(unet.config, unet.source)
  } else if (component === 'vae') {
    if (!vae) throw missing()
    loaded = await native().loadVae(vae.config, vae.source)
  } else {
    if (!textEncoder) throw missing()
    loaded = await native().loadTextEncoder(textEncoder.config, textEncoder.source)
  }
  return Object.assign(loaded as Models[K], { skip: textEncoder?.skip ?? 0 })
}

/** What compute() must give: of a text encoder with a projection, the pooled output comes last. */
export function expected(of: Case): GoldenTensor['data'] {
  const { data } = tensor(of, 'output')
  if (of.kind !== 'encode_text' || !has(of, 'pooled')) return data
  return Float32Array.of(...data, ...floats(of, 'pooled').data)
}

/** The engine's output for a case. */
export async function compute(
  model: NativeUnet | NativeVae | NativeTextEncoder,
  of: Case,
  most: number | null = null,
  skip = of.skip ?? 0,
): Promise<GoldenTensor['data']> {
  switch (of.kind) {
    case 'predict': {
      const latents = floats(of, 'latents')
      const context = floats(of, 'context')
      const [n, , h, w] = latents.shape
      const timesteps = floats(of, 'timesteps').data
      const conditioning = {
        timesteps,
        context: context.data,
        contextLength: context.shape[1],
        ...(has(of, 'pooled') && {
          pooled: floats(of, 'pooled').data,
          pooledWidth: floats(of, 'pooled').shape[1],
          timeIds: floats(of, 'time_ids').data,
          timeIdCount: floats(of, 'time_ids').shape[1],
        }),
        ...(has(of, 'guidance') && { guidance: floats(of, 'guidance').data }),
        ...(has(of, 'classes') && { classes: floats(of, 'classes').data }),
      }
      return (model as NativeUnet).predict({ latents: latents.data, n, h, w, conditioning })
    }
    case 'encode_text': {
      const { data, shape } = integers(of, 'tokens')
      const call = { tokens: data, n: shape[0], length: shape[1], skip }
      const encoder = model as NativeTextEncoder
      if (!has(of, 'pooled')) return encoder.encode(call)
      const pooledPositions = integers(of, 'positions').data
      return encoder.encode({ ...call, finalNorm: false, pooledPositions })
    }
    case 'encode': {
      const { data, shape } = floats(of, 'image')
      return (model as NativeVae).encode(data, shape[0], shape[2], shape[3], most)
    }
    case 'decode': {
      const { data, shape } = floats(of, 'latents')
      return (model as NativeVae).decode(data, shape[0], shape[2], shape[3], most)
    }
    case 'quantize': {
      const { data, shape } = floats(of, 'latents')
      return (model as NativeVae).quantize(data, shape[0], shape[2], shape[3])
    }
    case 'lookup': {
      const { data, shape } = integers(of, 'codes')
      return (model as NativeVae).lookup(data, shape[0], shape[1], shape[2])
    }
  }
}

export interface Difference {
  /** Largest |found − expected|; NaN if any element is NaN. */
  error: number
  /** Largest |expected|. */
  scale: number
  /** Index of the worst element. */
  at: number
}

/** Compares whole tensors. If their lengths differ, the error is NaN. */
export function difference(found: ArrayLike<number>, expected: ArrayLike<number>): Difference {
  let error = found.length === expected.length ? 0 : NaN
  let scale = 0
  let at = 0
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs(found[i] - expected[i])
    if (!(d <= error) && !Number.isNaN(error)) [error, at] = [d, i]
    scale = Math.max(scale, Math.abs(expected[i]))
  }
  return { error, scale, at }
}
