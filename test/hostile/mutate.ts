/** Damages files: bytes anywhere, and the values of a JSON text. */
import type { Random } from './harness.js'

/** Numbers at which arithmetic goes wrong, as 8 bytes in little endian. */
const numbers = [
  ...[0n, 1n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn],
  ...[
    1n << 32n,
    (1n << 48n) + 1n,
    (1n << 53n) - 1n,
    1n << 60n,
    (1n << 63n) - 1n,
    1n << 63n,
    (1n << 64n) - 1n,
  ],
].map((value) => {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(value)
  return bytes
})

/** One to four changes of `bytes`, most of them within the first `header` bytes. `words` are put in now and then. */
export function mutateBytes(
  bytes: Buffer,
  random: Random,
  { header = bytes.length, words = [] }: { header?: number; words?: readonly string[] } = {},
): Buffer {
  let result = Buffer.from(bytes)
  for (let changes = 1 + random.below(4); changes > 0; changes--) {
    const end = random.below(8) > 0 ? Math.min(header, result.length) : result.length
    const at = random.below(Math.max(end, 1))
    const length = 1 + random.below(random.below(4) > 0 ? 8 : 256)
    const part = result.subarray(at, at + length)
    switch (random.below(9)) {
      case 0:
      case 1:
        if (result.length > 0) result[at] ^= 1 << random.below(8)
        break
      case 2:
        if (result.length > 0) result[at] = random.below(256)
        break
      case 3:
        random
          .pick(numbers)
          .subarray(0, random.pick([1, 2, 4, 8]))
          .copy(result, at)
        break
      case 4:
        result = Buffer.concat([result.subarray(0, at), part, result.subarray(at)])
        break
      case 5:
        result = Buffer.concat([result.subarray(0, at), result.subarray(at + length)])
        break
      case 6:
        result.copy(result, random.below(Math.max(end, 1)), at, at + length)
        break
      case 7:
        if (random.below(3) === 0) result = result.subarray(0, random.below(result.length + 1))
        else part.fill(random.pick([0, 0xff, 0x20, 0x5b]))
        break
      default:
        if (words.length > 0)
          result = Buffer.concat([
            result.subarray(0, at),
            Buffer.from(random.pick(words)),
            result.subarray(at + random.below(length + 1)),
          ])
    }
  }
  return result
}

const values: (() => unknown)[] = [
  ...[null, true, false, 0, 1, -1, 1.5, -0, 3, 8, 64, 1e308, 2 ** 31, 2 ** 32, 2 ** 53, 1e-310, '', 'x'],
  ...['\u001b[2J\u202e', '\ud800', 'a\0b', '../../../etc/passwd', '7', 'NaN', 'v_prediction', '__proto__'],
].map((value) => () => value)
values.push(
  () => [],
  () => ({}),
  () => [[[]]],
  () => [1, 2, 3, 4],
  () => [2 ** 31, 2 ** 31, 2 ** 31],
  () => new Array<number>(2000).fill(1),
  () => 'x'.repeat(3000),
  () => JSON.parse('['.repeat(90) + ']'.repeat(90)) as unknown,
  () => Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`key ${i}`, i])),
)

type Place = [holder: Record<string, unknown>, key: string]

function places(holder: object, into: Place[]): Place[] {
  for (const [key, value] of Object.entries(holder)) {
    into.push([holder as Record<string, unknown>, key])
    if (typeof value === 'object' && value !== null) places(value as object, into)
  }
  return into
}

/** Replaces, removes, renames or exchanges one to three of the values of a JSON text. */
export function mutateJson(text: string, random: Random): string {
  const root = { json: JSON.parse(text) as unknown }
  for (let changes = 1 + random.below(3); changes > 0; changes--) {
    const all = places(root, [])
    const [holder, key] = random.pick(all)
    const [other, otherKey] = random.pick(all)
    switch (random.below(6)) {
      case 0:
        if (holder !== root) delete holder[key]
        break
      case 1:
        if (holder !== root && !Array.isArray(holder)) {
          const value = holder[key]
          delete holder[key]
          holder[random.pick([`${key}x`, '', '\u001b[31m', '__proto__ ', otherKey, key.toUpperCase()])] =
            value
        }
        break
      case 2: {
        const [a, b] = [holder[key], other[otherKey]]
        // What contains the other is left where it is.
        if (JSON.stringify(a).length < 200 && JSON.stringify(b).length < 200)
          [holder[key], other[otherKey]] = [b, a]
        break
      }
      case 3:
        if (typeof holder[key] === 'number') holder[key] += random.pick([1, -1, 0.5, 1e6, -1e6])
        else holder[key] = random.pick(values)()
        break
      default:
        holder[key] = random.pick(values)()
    }
    if (root.json === undefined) root.json = null
  }
  const changed = JSON.stringify(root.json)
  // JSON.stringify never writes the same key twice.
  return random.below(12) === 0 ? changed.replace(/("[^"]*":)/, '$10,$1') : changed
}
