/** Values that no type checker stops. Each is made anew, because some can be used only once. */
import type { Random } from './harness.js'

/** What getters and traps throw: it comes back as it is. */
export class OwnError extends Error {}

const fail = (): never => {
  throw new OwnError('an error of the caller')
}

function detached(
  array: Float32Array<ArrayBuffer> | Uint8Array<ArrayBuffer> | Int32Array<ArrayBuffer>,
): unknown {
  structuredClone(array.buffer, { transfer: [array.buffer] })
  return array
}

function resized(): Float32Array {
  const Buffer = ArrayBuffer as unknown as new (
    n: number,
    o: object,
  ) => ArrayBuffer & { resize(n: number): void }
  const buffer = new Buffer(64, { maxByteLength: 128 })
  const array = new Float32Array(buffer)
  buffer.resize(8)
  return array
}

function revoked(target: object): unknown {
  const { proxy, revoke } = Proxy.revocable(target, {})
  revoke()
  return proxy
}

const factories: Record<string, () => unknown> = {
  undefined: () => undefined,
  null: () => null,
  NaN: () => NaN,
  Infinity: () => Infinity,
  '-1': () => -1,
  '0': () => 0,
  '-0': () => -0,
  '1.5': () => 1.5,
  '2^31': () => 2 ** 31,
  '2^53': () => 2 ** 53,
  '1e308': () => 1e308,
  true: () => true,
  'a bigint': () => 10n ** 30n,
  'an empty string': () => '',
  'a string': () => 'x',
  'control characters': () => '\u001b[2J\u202e',
  'a null byte': () => 'a\0b',
  'a string of 10 MB': () => 'x'.repeat(10_000_000),
  'a lone surrogate': () => '\ud800',
  __proto__: () => '__proto__',
  constructor: () => 'constructor',
  'a symbol': () => Symbol('s'),
  'a function': () => () => undefined,
  'a function that throws': () => fail,
  'an empty array': () => [],
  'a sparse array': () => new Array(3),
  'the longest array': () => new Array(2 ** 32 - 1),
  'nested arrays': () => [[[[1]]]],
  'an object': () => ({}),
  'an object without a prototype': () => Object.create(null) as unknown,
  'a huge length': () => ({ length: 1e9 }),
  'a negative length': () => ({ length: -1 }),
  'a length that throws': () => Object.defineProperty({}, 'length', { get: fail }),
  'a getter that throws': () => Object.defineProperty({}, 'data', { get: fail, enumerable: true }),
  'a proxy that throws': () => new Proxy({}, { get: fail, ownKeys: fail, has: fail, getPrototypeOf: fail }),
  'a revoked proxy': () => revoked({}),
  'a revoked proxy of an array': () => revoked([]),
  'a revoked proxy of a function': () => revoked(() => undefined),
  'toString that throws': () => ({ toString: fail, valueOf: fail, [Symbol.toPrimitive]: fail }),
  'a thenable': () => ({ then: (resolve: (x: number) => void) => resolve(1) }),
  'a date': () => new Date(NaN),
  'a map': () => new Map(),
  'detached floats': () => detached(new Float32Array(16)),
  'detached bytes': () => detached(new Uint8Array(16)),
  'detached ids': () => detached(new Int32Array(77)),
  'shared floats': () => new Float32Array(new SharedArrayBuffer(64)),
  'shared bytes': () => new Uint8Array(new SharedArrayBuffer(64)),
  'floats in a buffer that shrank': resized,
  'floats with a false length': () => Object.defineProperty(new Float32Array(4), 'length', { value: 1e6 }),
  'a proxy of floats': () => new Proxy(new Float32Array(4), {}),
  doubles: () => new Float64Array(16),
  'big integers': () => new BigInt64Array(4),
  'a data view': () => new DataView(new ArrayBuffer(8)),
  '10 MB of bytes': () => new Uint8Array(10_000_000),
  '10 MB of floats': () => new Float32Array(2_500_000),
  'a tensor of 10 MB': () => ({ data: new Float32Array(2_500_000), shape: [1, 2, 1250, 1000] }),
  'a tensor of NaN': () => ({ data: new Float32Array(4 * 64).fill(NaN), shape: [1, 4, 8, 8] }),
  'a tensor of another shape': () => ({ data: new Float32Array(6), shape: [1, 2, 3] }),
  'a tensor with a shape that lies': () => ({ data: new Float32Array(6), shape: [1, 4, 1e9, 1e9] }),
  'a tensor with a long shape': () => ({ data: new Float32Array(1), shape: new Array(2 ** 32 - 1) }),
  'a tensor that throws': () => ({ data: new Float32Array(1), get shape() { return fail() } }), // prettier-ignore
  'a signal that throws': () => ({
    aborted: false,
    addEventListener: fail,
    removeEventListener: fail,
  }),
  'a foreign signal': () => ({ aborted: true, addEventListener() {}, removeEventListener() {} }),
}

const names = Object.keys(factories)

/** The value of this name in the list. */
export function hostile(name: string): unknown {
  return factories[name]()
}

/** A value of the list, and its name. */
export function hostileValue(random: Random): { name: string; value: unknown } {
  const name = random.pick(names)
  return { name, value: factories[name]() }
}
