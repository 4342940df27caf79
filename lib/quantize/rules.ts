import { checkOneOf, expectation } from '../check.js'
import type { TensorType } from '../native.js'
import { GGML_TYPES } from '../weights/gguf-types.js'

/** Which type the tensors get whose name a pattern matches. */
export interface Rule {
  /** As it was written, for reports. */
  readonly text: string
  readonly type: TensorType
  matches(name: string): boolean
}

export const TENSOR_TYPES = Object.keys(GGML_TYPES) as TensorType[]

/** 'Q4_K' as ggml writes it, 'q4_k' as we do. */
export function checkTensorType(value: unknown, path: string): TensorType {
  return checkOneOf(typeof value === 'string' ? value.toLowerCase() : value, path, TENSOR_TYPES)
}

/**
 * `unet.*attn*=q8_0,*.conv_in.*=f16`: patterns of whole tensor names, * for any characters and ? for one, in the order in
 * which they are tried.
 */
export function parseRules(value: unknown, path = 'rules'): Rule[] {
  if (value === undefined) return []
  if (typeof value !== 'string') throw new TypeError(expectation('string', path, value))
  return value
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
    .map((part) => {
      const [pattern, type, ...more] = part.split('=').map((side) => side.trim())
      if (!pattern || !type || more.length > 0) {
        throw new RangeError(expectation('pattern=type, separated by commas,', path, part))
      }
      return rule(part, pattern, checkTensorType(type, `${path} (${pattern})`))
    })
}

function rule(text: string, pattern: string, type: TensorType): Rule {
  const source = pattern
    .replace(/[^\w*?]/g, '\\$&')
    .replace(/\*+/g, '.*')
    .replaceAll('?', '.')
  const expression = new RegExp(`^${source}$`, 's')
  return { text, type, matches: (name) => expression.test(name) }
}

/**
 * What is kept precise unless a rule says otherwise: lookup tables, the layers that latents and timesteps enter and leave
 * by, which are few and whose error nothing evens out, and the autoencoder, whose 8 bits can be seen in flat areas.
 */
export const DEFAULT_RULES: readonly Rule[] = parseRules(
  'text_encoder.embeddings.*=f16,unet.conv_in.*=f16,unet.conv_out.*=f16,unet.time_embedding.*=f16,' +
    'vae.quantize.*=f32,vae.*=f16',
)
