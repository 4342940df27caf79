/**
 * Checks of options. A wrong type throws a TypeError, a wrong value a RangeError. The message says what was expected,
 * for which option, and what was received: `Expected integer between 1 and 1000 for steps but received 0 of type
 * number`.
 */
import { types } from 'node:util'
import { printable, received, shorten } from './quote.js'
import { RemoteTensor } from './remote-tensor.js'
import { closest } from './spelling.js'
import type { Tensor } from './types.js'

/** The message of an error; `expected` follows the word "Expected". */
export function expectation(expected: string, path: string, value: unknown): string {
  return `Expected ${expected} for ${path} but received ${received(value)}`
}

/**
 * An object that has no other keys than these. The result is a copy for which each property was read once: a getter can
 * return something else every time.
 */
export function checkObject(value: unknown, path: string, keys: readonly string[]): Record<string, unknown> {
  const given = checkRecord(value, path)
  for (const key of Object.keys(given)) {
    if (keys.includes(key)) continue
    const likely = closest(key, keys)
    const name = (path === 'options' ? '' : `${path}.`) + printable(shorten(key))
    const hint = likely ? `, did you mean ${likely}?` : '.'
    throw new TypeError(`Unknown option ${name}${hint} Known options: ${keys.join(', ')}`)
  }
  return Object.fromEntries(keys.map((key) => [key, given[key]]))
}

/** Whether it is an object with properties that can be read, and no array; listing the keys of a large one takes seconds. */
function isObject(value: unknown): value is Record<string, unknown> {
  return isReadable(value) && !isArray(value) && !ArrayBuffer.isView(value)
}

/** Array.isArray(), which throws for a proxy that has been revoked. */
export function isArray(value: unknown): value is unknown[] {
  return isReadable(value) && Array.isArray(value)
}

/** A copy of an array of at most `most` elements. */
export function checkList(value: unknown, path: string, most: number): unknown[] {
  if (!isArray(value)) throw new TypeError(expectation('array', path, value))
  if (value.length > most)
    throw new RangeError(`Expected at most ${most} elements for ${path} but received ${value.length}`)
  // map() would skip the holes of a sparse array.
  return Array.from(value)
}

/** An object whose keys are not known. */
export function checkRecord(value: unknown, path: string): Record<string, unknown> {
  if (!isObject(value)) throw new TypeError(expectation('object', path, value))
  return value
}

/** Whether it is an object or array, and no proxy that has been revoked. */
export function isReadable(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !isRevoked(value)
}

/** Whether it is a proxy that has been revoked: whatever is done with it throws. */
function isRevoked(value: object): boolean {
  try {
    // Of all operations, the one that no trap of a proxy sees.
    Array.isArray(value)
    return false
  } catch {
    return true
  }
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

/** Maximum number of characters of a text that is tokenized: tokenizing takes time in proportion to it. */
export const MAX_TEXT_LENGTH = 8192

/** A text that is tokenized. */
export function checkText(value: unknown, path: string): string {
  const text = checkString(value, path)
  if (text.length <= MAX_TEXT_LENGTH) return text
  throw new RangeError(
    `Expected at most ${MAX_TEXT_LENGTH} characters for ${path} but received ${text.length}`,
  )
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
  if (typeof value !== 'function' || isRevoked(value))
    throw new TypeError(expectation('function', path, value))
  return value as T
}

/** Undefined, or an object that behaves like an AbortSignal, also from another realm or library. */
export function checkSignal(value: unknown, path = 'signal'): AbortSignal | undefined {
  if (value === undefined) return undefined
  const signal = value as AbortSignal
  if (
    !isReadable(value) ||
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

const typedArray = Object.getPrototypeOf(Float32Array.prototype) as object

/** The true length of a typed array, whatever a property of that name says; 0 if its buffer has been transferred. */
export function lengthOf(array: Float32Array | Int32Array | Uint8Array): number {
  return Reflect.get(typedArray, 'length', array) as number
}

/** A copy of bytes, which the caller cannot change any more; none if their buffer has been transferred. */
export function copyBytes(bytes: Uint8Array): Uint8Array {
  return lengthOf(bytes) === 0 ? new Uint8Array(0) : new Uint8Array(bytes)
}

/** Tensors have at most this many dimensions. A shape that is longer is not read. */
const MAX_DIMENSIONS = 8

/** A copy of a shape: sizes above 0. */
export function checkShape(value: unknown, path: string): number[] {
  let list: unknown[] | undefined
  try {
    // Not map(), which skips the holes of a sparse array.
    if (isArray(value) && value.length <= MAX_DIMENSIONS) list = Array.from(value)
  } catch {
    // A proxy that cannot be read.
  }
  if (!list?.every((size) => typeof size === 'number')) {
    throw new TypeError(expectation('array of numbers', path, value))
  }
  const shape = list
  if (!shape.every((size) => Number.isInteger(size) && size > 0)) {
    throw new RangeError(`Expected sizes above 0 for ${path} but received [${shape.join(', ')}]`)
  }
  return shape
}

/**
 * A tensor of this shape; −1 in `shape` stands for any size above 0. The values are not read: looking for NaN would
 * cost a pass over the data, and NaN harms nothing but the image. The result has the same data and a copy of the shape.
 */
export function checkTensor(value: unknown, path: string, shape?: readonly number[]): Tensor {
  const expected = `tensor { data: Float32Array, shape: number[] }`
  if (!isReadable(value)) throw new TypeError(expectation(expected, path, value))
  if (value instanceof RemoteTensor) {
    checkSizes(value.shape, path, shape)
    return value
  }
  const { data, shape: given } = value as Tensor
  // Unlike instanceof, this also holds for arrays of other realms, and not for a proxy of one.
  if (!types.isFloat32Array(data)) throw new TypeError(expectation(expected, path, value))
  const sizes = checkShape(given, `${path}.shape`)
  const count = sizes.reduce((product, size) => product * size, 1)
  if (count !== lengthOf(data)) {
    throw new RangeError(
      `Expected ${count} elements for ${path}.data, as ${path}.shape [${sizes.join(', ')}] says, but received ${lengthOf(data)}`,
    )
  }
  checkSizes(sizes, path, shape)
  return { data, shape: sizes }
}

function checkSizes(sizes: readonly number[], path: string, shape: readonly number[] | undefined): void {
  if (!shape) return
  const fits = shape.length === sizes.length && shape.every((size, i) => size === -1 || size === sizes[i])
  if (fits) return
  const wanted = shape.map((size) => (size === -1 ? 'any' : size)).join(', ')
  throw new RangeError(`Expected shape [${wanted}] for ${path} but received [${sizes.join(', ')}]`)
}

/** checkTensor(), then a copy, which the caller cannot change any more. */
export function copyTensor(value: unknown, path: string, shape?: readonly number[]): Tensor {
  const tensor = checkTensor(value, path, shape)
  return { data: new Float32Array(tensor.data), shape: tensor.shape }
}

/** A copy of `count` finite numbers; without `count`, of at most `most` numbers. */
export function checkNumbers(
  value: unknown,
  path: string,
  { count, most = count ?? 0 }: { count?: number; most?: number },
): Float32Array {
  const expected = count === undefined ? `array of at most ${most} numbers` : `array of ${count} numbers`
  if (!isReadable(value)) throw new TypeError(expectation(expected, path, value))
  const list = value as ArrayLike<unknown>
  const { length } = list
  if (typeof length !== 'number') throw new TypeError(expectation(expected, path, value))
  if (!Number.isInteger(length) || length < 0 || (count === undefined ? length > most : length !== count)) {
    throw new RangeError(`Expected ${expected} for ${path} but received ${length}`)
  }
  const numbers = new Float32Array(length)
  for (let i = 0; i < length; i++) {
    const one = list[i]
    if (typeof one !== 'number') throw new TypeError(expectation('number', `${path}[${i}]`, one))
    numbers[i] = one
    if (!Number.isFinite(numbers[i])) throw new RangeError(expectation('finite number', `${path}[${i}]`, one))
  }
  return numbers
}
