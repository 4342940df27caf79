/**
 * Checks of options. A wrong type throws a TypeError, a wrong value a RangeError. The message says what was expected,
 * for which option, and what was received: `Expected integer between 1 and 1000 for steps but received 0 of type
 * number`.
 */
import { printable, received, shorten } from './quote.js'
import { closest } from './spelling.js'
import type { Tensor } from './types.js'

/** The message of an error; `expected` follows the word "Expected". */
export function expectation(expected: string, path: string, value: unknown): string {
  return `Expected ${expected} for ${path} but received ${received(value)}`
}

/** An object that has no other keys than these. */
export function checkObject(value: unknown, path: string, keys: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new TypeError(expectation('object', path, value))
  }
  for (const key of Object.keys(value)) {
    if (keys.includes(key)) continue
    const likely = closest(key, keys)
    const name = (path === 'options' ? '' : `${path}.`) + printable(shorten(key))
    const hint = likely ? `, did you mean ${likely}?` : '.'
    throw new TypeError(`Unknown option ${name}${hint} Known options: ${keys.join(', ')}`)
  }
  return value as Record<string, unknown>
}

export function checkInteger(value: unknown, path: string, lowest: number, highest: number): number {
  const expected = `integer between ${lowest} and ${highest}`
  if (typeof value !== 'number') throw new TypeError(expectation(expected, path, value))
  if (!Number.isInteger(value) || value < lowest || value > highest) {
    throw new RangeError(expectation(expected, path, value))
  }
  return value
}

export function checkNumber(value: unknown, path: string, lowest: number, highest: number): number {
  const expected = `number between ${lowest} and ${highest}`
  if (typeof value !== 'number') throw new TypeError(expectation(expected, path, value))
  if (!(value >= lowest && value <= highest)) throw new RangeError(expectation(expected, path, value))
  return value
}

export function checkString(value: unknown, path: string): string {
  if (typeof value !== 'string') throw new TypeError(expectation('string', path, value))
  return value
}

export function checkBoolean(value: unknown, path: string): boolean {
  if (typeof value !== 'boolean') throw new TypeError(expectation('boolean', path, value))
  return value
}

export function checkOneOf<T extends string>(value: unknown, path: string, names: readonly T[]): T {
  if (typeof value !== 'string') throw new TypeError(expectation(`one of ${names.join(', ')}`, path, value))
  if (names.includes(value as T)) return value as T
  const likely = closest(value, names)
  const hint = likely ? `, did you mean ${likely}?` : ''
  throw new RangeError(expectation(`one of ${names.join(', ')}`, path, value) + hint)
}

export function checkFunction<T>(value: unknown, path: string): T {
  if (typeof value !== 'function') throw new TypeError(expectation('function', path, value))
  return value as T
}

/** Undefined, or an object that behaves like an AbortSignal, also from another realm or library. */
export function checkSignal(value: unknown, path = 'signal'): AbortSignal | undefined {
  if (value === undefined) return undefined
  const signal = value as AbortSignal
  if (
    typeof value !== 'object' ||
    value === null ||
    typeof signal.aborted !== 'boolean' ||
    typeof signal.addEventListener !== 'function' ||
    typeof signal.removeEventListener !== 'function'
  ) {
    throw new TypeError(expectation('AbortSignal', path, value))
  }
  return signal
}

/** A seed, 0…2^64−1. Numbers above 2^53 are not exact, so larger seeds must be bigints. */
export function checkSeed(value: unknown, path: string): number | bigint {
  const expected = 'integer between 0 and 18446744073709551615 (2^64-1)'
  if (typeof value === 'bigint') {
    if (value < 0n || value >= 2n ** 64n) throw new RangeError(expectation(expected, path, value))
    return value
  }
  if (typeof value !== 'number') throw new TypeError(expectation(expected, path, value))
  if (!Number.isInteger(value) || value < 0) throw new RangeError(expectation(expected, path, value))
  if (!Number.isSafeInteger(value)) {
    throw new RangeError(expectation(`${expected}, as a bigint beyond 2^53,`, path, value))
  }
  return value
}

/**
 * A tensor of this shape; −1 in `shape` stands for any size above 0. The values are not read: looking for NaN would
 * cost a pass over the data, and NaN harms nothing but the image.
 */
export function checkTensor(value: unknown, path: string, shape?: readonly number[]): Tensor {
  const expected = `tensor { data: Float32Array, shape: number[] }`
  const tensor = value as Tensor
  if (typeof value !== 'object' || value === null || !(tensor.data instanceof Float32Array)) {
    throw new TypeError(expectation(expected, path, value))
  }
  if (!Array.isArray(tensor.shape) || !tensor.shape.every((size) => typeof size === 'number')) {
    throw new TypeError(expectation('array of numbers', `${path}.shape`, tensor.shape))
  }
  const found = `[${tensor.shape.join(', ')}]`
  if (!tensor.shape.every((size) => Number.isInteger(size) && size > 0)) {
    throw new RangeError(`Expected sizes above 0 for ${path}.shape but received ${found}`)
  }
  const count = tensor.shape.reduce((product, size) => product * size, 1)
  if (count !== tensor.data.length) {
    throw new RangeError(
      `Expected ${count} elements for ${path}.data, as ${path}.shape ${found} says, but received ${tensor.data.length}`,
    )
  }
  if (shape) {
    const fits =
      shape.length === tensor.shape.length &&
      shape.every((size, i) => size === -1 || size === tensor.shape[i])
    if (!fits) {
      const wanted = shape.map((size) => (size === -1 ? 'any' : size)).join(', ')
      throw new RangeError(`Expected shape [${wanted}] for ${path} but received ${found}`)
    }
  }
  return tensor
}

/** checkTensor(), then a copy, which the caller cannot change any more. */
export function copyTensor(value: unknown, path: string, shape?: readonly number[]): Tensor {
  const tensor = checkTensor(value, path, shape)
  return { data: new Float32Array(tensor.data), shape: [...tensor.shape] }
}
