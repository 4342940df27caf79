/** Parses what users type. Only the syntax is checked here; the library checks bounds. */
import { InvalidArgumentError } from 'commander'
import { controlTypes, type ControlType } from '../options/control-types.js'
import { plainPreprocessors, type PlainPreprocessor } from '../options/preprocessors.js'
import { quote } from '../quote.js'
import { closest } from '../spelling.js'
import type { DeviceOption, PredictionType } from '../types.js'

export function integer(text: string): number {
  if (!/^[+-]?\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.')
  return Number(text)
}

export function positive(text: string): number {
  const value = integer(text)
  if (value < 1) throw new InvalidArgumentError('It must be 1 or more.')
  return value
}

export function number(text: string): number {
  if (!/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text))
    throw new InvalidArgumentError('It must be a number.')
  return Number(text)
}

/** A seed of up to 64 bits: a bigint where a number would not be exact. */
export function seed(text: string): number | bigint {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number of 0 or more.')
  const value = BigInt(text)
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

/** Two numbers: `0.2-0.8`. */
export function interval(text: string): [from: number, to: number] {
  const match = /^([\d.]+)\s*[-–:,]\s*([\d.]+)$/.exec(text.trim())
  if (!match) throw new InvalidArgumentError('It must look like 0.2-0.8.')
  return [number(match[1]), number(match[2])]
}

/** An interval, `3`, or an interval and a depth, `3:2`. */
export function deepCache(text: string): { interval: number; depth?: number } {
  const [every, depth, ...more] = text.split(':')
  if (more.length > 0) throw new InvalidArgumentError('It must look like 3 or 3:2.')
  return { interval: integer(every), ...(depth === undefined ? {} : { depth: integer(depth) }) }
}

export function device(text: string): DeviceOption {
  if (!/^(auto|cpu|cuda(:\d{1,3})?)$/.test(text))
    throw new InvalidArgumentError('It must be auto, cpu, cuda or cuda:<n>.')
  return text as DeviceOption
}

/** A width and height, `512x768`, or one number for both, `512`. */
export function size(text: string): { width: number; height: number } {
  const match = /^(\d+)(?:[x×*](\d+))?$/i.exec(text.trim())
  if (!match) throw new InvalidArgumentError('It must look like 512x768 or 512.')
  return { width: Number(match[1]), height: Number(match[2] ?? match[1]) }
}

/** A textual inversion file and its name in prompts, `easynegative.pt=bad`, added to those given before. */
export function embedding(
  text: string,
  before: { path: string; token?: string }[] = [],
): { path: string; token?: string }[] {
  const at = text.lastIndexOf('=')
  // A name has no separators of folders; an equals sign before one belongs to the path.
  const token = at > 0 ? text.slice(at + 1) : ''
  const named = token !== '' && !/[\\/]/.test(token)
  return [...before, named ? { path: text.slice(0, at), token } : { path: text }]
}

/** A LoRA file and its scale, `style.safetensors:0.8`, added to those given before. */
export function lora(
  text: string,
  before: { path: string; scale: number }[] = [],
): { path: string; scale: number }[] {
  return [...before, scaled(text)]
}

/** An image and how strongly it guides, `photo.jpg:0.6`, added to those given before. */
export function imagePrompt(
  text: string,
  before: { image: string; scale: number }[] = [],
): { image: string; scale: number }[] {
  const { path, scale } = scaled(text)
  return [...before, { image: path, scale }]
}

/** A path, added to those given before. */
export function paths(path: string, before: string[] = []): string[] {
  return [...before, path]
}

function scaled(text: string): { path: string; scale: number } {
  // A colon may belong to the path, as in C:\style.safetensors.
  const match = /^(.+):([+-]?(?:\d+(?:\.\d*)?|\.\d+))$/s.exec(text)
  return match ? { path: match[1], scale: Number(match[2]) } : { path: text, scale: 1 }
}

/** What `--control` says: a file, its picture and how it guides. */
export interface ControlFlag {
  net: string
  image: string
  mask?: string
  scale?: number
  start?: number
  end?: number
  preprocessor?: PlainPreprocessor
  fit?: 'resize' | 'crop' | 'fill'
  guess?: true
  weights?: 'soft'
  type?: ControlType | number
}

/** The settings of `--control` that are words. */
const CONTROL_WORDS: Record<string, Partial<ControlFlag>> = {
  ...Object.fromEntries(plainPreprocessors.map((name) => [name, { preprocessor: name }])),
  ...Object.fromEntries((['resize', 'crop', 'fill'] as const).map((name) => [name, { fit: name }])),
  guess: { guess: true },
  soft: { weights: 'soft' },
}

/** What a picture shows, as in `union.safetensors=photo.jpg:type=depth`. */
const CONTROL_TYPE = /^type=(?:(\d{1,3})|([\w-]+))$/

/**
 * A ControlNet, its picture and settings, `canny.safetensors=photo.jpg:0.7:0-0.5:canny`, added to those given before. The
 * settings may come in any order.
 */
export function control(text: string, before: ControlFlag[] = []): ControlFlag[] {
  const fail = (why: string) => new InvalidArgumentError(why)
  const settings: Partial<ControlFlag> = {}
  let rest = text
  for (;;) {
    const [, head, last] = /^(.*[^:]):((?:type=)?[\w.+-]+|mask=(?:[a-z]:(?=[\\/]))?[^:]+)$/is.exec(rest) ?? []
    const found = last === undefined ? undefined : controlSetting(last)
    if (!found) break
    for (const key of Object.keys(found))
      if (Object.hasOwn(settings, key)) throw fail(`It has two settings for ${key}.`)
    Object.assign(settings, found)
    rest = head
  }
  const [, net, image] = /^([^=]+)=(.+)$/s.exec(rest) ?? []
  if (net === undefined) throw fail('It must look like canny.safetensors=photo.jpg:0.7.')
  const [, word] = /:([a-z]+)$/i.exec(image) ?? []
  if (word !== undefined) {
    const known = Object.keys(CONTROL_WORDS)
    const near = closest(word, known)
    throw fail(near ? `Did you mean ${near}?` : `Its settings are numbers, or of ${known.join(', ')}.`)
  }
  return [...before, { net, image, ...settings }]
}

function controlSetting(text: string): Partial<ControlFlag> | undefined {
  if (Object.hasOwn(CONTROL_WORDS, text)) return CONTROL_WORDS[text]
  if (text.startsWith('mask=')) return { mask: text.slice('mask='.length) }
  const [kind, number, name] = CONTROL_TYPE.exec(text) ?? []
  if (number !== undefined) return { type: Number(number) }
  if (kind !== undefined) {
    const known = controlTypes.find((type) => type === name)
    if (known !== undefined) return { type: known }
    const near = closest(name, controlTypes)
    const advice = near ? `Did you mean ${near}?` : `It is one of ${controlTypes.join(', ')}, or a number.`
    throw new InvalidArgumentError(`There is no type ${quote(name, 30)}. ${advice}`)
  }
  if (/^[+-]?(\d+(\.\d*)?|\.\d+)$/.test(text)) return { scale: Number(text) }
  const [, from, to] = /^(\d+(?:\.\d*)?|\.\d+)-(\d+(?:\.\d*)?|\.\d+)$/.exec(text) ?? []
  return from === undefined ? undefined : { start: Number(from), end: Number(to) }
}

/** Pixels from the top and the left: `0,128`. */
export function crop(text: string): { top: number; left: number } {
  const match = /^(\d+)\s*[,x]\s*(\d+)$/.exec(text.trim())
  if (!match) throw new InvalidArgumentError('It must look like 0,128: top and left.')
  return { top: Number(match[1]), left: Number(match[2]) }
}

/** As diffusers, stable-diffusion.cpp and kohya's scripts spell them. */
const PREDICTIONS: Record<string, PredictionType> = {
  ...{ epsilon: 'epsilon', eps: 'epsilon' },
  ...{ v: 'v_prediction', v_prediction: 'v_prediction', 'v-prediction': 'v_prediction' },
  ...{ vpred: 'v_prediction', v_pred: 'v_prediction', 'v-pred': 'v_prediction' },
  ...{ sample: 'sample', x0: 'sample' },
}

export function prediction(text: string): PredictionType {
  const name = text.trim().toLowerCase()
  if (!Object.hasOwn(PREDICTIONS, name)) throw new InvalidArgumentError('It must be epsilon, v or sample.')
  return PREDICTIONS[name]
}
