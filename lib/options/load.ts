/** The options of load(). */
import { checkBoolean, checkInteger, checkObject, checkOneOf, checkSignal, checkString } from '../check.js'
import { native, type Precision } from '../native.js'

/** Options of DiffusionPipeline.load(). */
export interface LoadOptions {
  /** Number of threads of the process, 1…256. Default: one for each physical core. */
  threads?: number
  /**
   * The type in which the engine multiplies. 'auto' chooses by the stored weights and the CPU; 'f32' comes closest to
   * diffusers in fp32. Default: 'auto'.
   */
  precision?: Precision
  /** Folder or file of a tiny autoencoder (TAESD), for previews and for images with `decoder: 'tiny'`. */
  tinyVae?: string
  /**
   * true: no weights stay in memory; they are read from the model's files whenever a layer needs them, in every step.
   * false: all weights stay in memory. Default: weights that are used in every step stay; those that are used once per
   * image are read for each image (the text encoder and autoencoder of a quantized model, otherwise the image encoder
   * alone). If this is true, or by default with a quantized model, the autoencoder takes no more working memory than
   * the UNet. With int8 arithmetic, images differ by rounding between the settings.
   */
  lowMemory?: boolean
  /** Aborts loading within 100 ms. */
  signal?: AbortSignal
}

/** The values of `precision`. */
export const precisions: readonly Precision[] = ['auto', 'f32', 'bf16', 'int8']

/** Checks the option if it is given. */
export function checkPrecision(value: unknown): Precision | undefined {
  return value === undefined ? undefined : checkOneOf(value, 'precision', precisions)
}

export function checkLoadOptions(options: unknown): LoadOptions {
  const keys = ['threads', 'precision', 'tinyVae', 'lowMemory', 'signal'] as const
  const { threads, precision, tinyVae, lowMemory, signal } = checkObject(options, 'options', keys)
  return {
    threads: threads === undefined ? undefined : checkInteger(threads, 'threads', 1, native().limits.threads),
    precision: checkPrecision(precision),
    tinyVae: tinyVae === undefined ? undefined : checkString(tinyVae, 'tinyVae'),
    lowMemory: lowMemory === undefined ? undefined : checkBoolean(lowMemory, 'lowMemory'),
    signal: checkSignal(signal),
  }
}
