/** LoRAs that prompts name, as web UIs have it: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:0.5:0.8>`. */
import { expectation } from '../check.js'

const LORA = /<(?:lora|lyco|lycoris):([^<>:]{1,200})((?::[^<>:]{0,40}){0,4})>/gi
const MAX_LORAS = 32
/** As for the option `loras`. */
const MAX_SCALE = 100

/** A LoRA as a prompt names it. */
export interface NamedLora {
  name: string
  scale: number
  textEncoderScale?: number
}

/**
 * Takes the LoRAs out of a prompt.
 *
 * @throws {RangeError} a scale is no number, or out of bounds
 */
export function takeLoras(prompt: string): { text: string; loras: NamedLora[] } {
  const loras: NamedLora[] = []
  const text = prompt.replace(LORA, (whole, name: string, rest: string) => {
    loras.push({ name: name.trim(), ...readScales(whole, rest.split(':').slice(1)) })
    return ''
  })
  if (loras.length > MAX_LORAS)
    throw new RangeError(`Expected at most ${MAX_LORAS} LoRAs in a prompt but received ${loras.length}`)
  return { text, loras }
}

/** One number is the scale; of two, the first one is that of the text encoders. They may have names, `te=` and `unet=`. */
function readScales(whole: string, parts: string[]): Pick<NamedLora, 'scale' | 'textEncoderScale'> {
  const numbers: number[] = []
  const named: Partial<Record<string, number>> = {}
  for (const part of parts) {
    const [, key, value] = /^\s*(?:(te|unet)\s*=)?\s*(.*?)\s*$/i.exec(part)!
    const scale = value === '' ? 1 : Number(value)
    if (!(Math.abs(scale) <= MAX_SCALE))
      throw new RangeError(expectation(`number between -${MAX_SCALE} and ${MAX_SCALE}`, whole, value))
    if (key) named[key.toLowerCase()] = scale
    else numbers.push(scale)
  }
  const text = named.te ?? numbers[0] ?? 1
  const scale = named.unet ?? numbers[1] ?? (named.te === undefined ? text : (numbers[0] ?? 1))
  return { scale, ...(text !== scale && { textEncoderScale: text }) }
}
