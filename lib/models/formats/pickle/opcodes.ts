import { badFormat } from '../fail.js'
import type { PickleInput } from './input.js'

/**
 * The operations of pickle protocols 0 to 5, with their operands. Operations that differ only in the width of the
 * operand have one name here.
 */

export type Operand = number | bigint | boolean | null | string | [module: string, name: string]

export interface Operation {
  name: string
  operand: Operand
}

const MAX_TEXT = 4 << 20
const MAX_LINE = 4096
/** Bytes of the longest integer. */
const MAX_INTEGER = 256

/** Operations without operands. */
const PLAIN: Readonly<Record<number, Operation>> = plainOperations({
  '(': 'MARK',
  '.': 'STOP',
  '0': 'POP',
  '1': 'POP_MARK',
  '2': 'DUP',
  Q: 'BINPERSID',
  R: 'REDUCE',
  a: 'APPEND',
  b: 'BUILD',
  d: 'DICT',
  e: 'APPENDS',
  l: 'LIST',
  o: 'OBJ',
  s: 'SETITEM',
  t: 'TUPLE',
  u: 'SETITEMS',
  '}': 'EMPTY_DICT',
  ']': 'EMPTY_LIST',
  '\x81': 'NEWOBJ',
  '\x8f': 'EMPTY_SET',
  '\x90': 'ADDITEMS',
  '\x91': 'FROZENSET',
  '\x92': 'NEWOBJ_EX',
  '\x93': 'STACK_GLOBAL',
  '\x94': 'MEMOIZE',
})

function plainOperations(names: Record<string, string>): Record<number, Operation> {
  return {
    ...Object.fromEntries(
      Object.entries(names).map(([code, name]) => [code.charCodeAt(0), { name, operand: null }]),
    ),
    0x4e: { name: 'VALUE', operand: null },
    0x88: { name: 'VALUE', operand: true },
    0x89: { name: 'VALUE', operand: false },
    0x29: { name: 'TUPLE_N', operand: 0 },
    0x85: { name: 'TUPLE_N', operand: 1 },
    0x86: { name: 'TUPLE_N', operand: 2 },
    0x87: { name: 'TUPLE_N', operand: 3 },
  }
}

type Decode = (bytes: Buffer) => Operand
const unsigned: Decode = (bytes) => bytes.readUIntLE(0, bytes.length)

/** Operations whose operand has a fixed number of bytes. */
const FIXED: Readonly<Record<number, readonly [name: string, bytes: number, decode: Decode]>> = {
  0x80: ['PROTO', 1, unsigned],
  0x95: ['FRAME', 8, () => null],
  0x4a: ['VALUE', 4, (bytes) => bytes.readInt32LE()], // BININT
  0x4b: ['VALUE', 1, unsigned], // BININT1
  0x4d: ['VALUE', 2, unsigned], // BININT2
  0x47: ['VALUE', 8, (bytes) => bytes.readDoubleBE()], // BINFLOAT
  0x68: ['GET', 1, unsigned], // BINGET
  0x6a: ['GET', 4, unsigned], // LONG_BINGET
  0x71: ['PUT', 1, unsigned], // BINPUT
  0x72: ['PUT', 4, unsigned], // LONG_BINPUT
}

/** Operations whose operand begins with its length, a number of so many bytes. */
const COUNTED: Readonly<
  Record<number, readonly [kind: 'TEXT' | 'BYTES' | 'INTEGER', lengthBytes: 1 | 4 | 8]>
> = {
  0x55: ['TEXT', 1], // SHORT_BINSTRING
  0x54: ['TEXT', 4], // BINSTRING
  0x8c: ['TEXT', 1], // SHORT_BINUNICODE
  0x58: ['TEXT', 4], // BINUNICODE
  0x8d: ['TEXT', 8], // BINUNICODE8
  0x43: ['BYTES', 1], // SHORT_BINBYTES
  0x42: ['BYTES', 4], // BINBYTES
  0x8e: ['BYTES', 8], // BINBYTES8
  0x96: ['BYTES', 8], // BYTEARRAY8
  0x8a: ['INTEGER', 1], // LONG1
  0x8b: ['INTEGER', 4], // LONG4
}

/** Operations whose operand is a line of text. */
const LINES: Readonly<Record<number, string>> = {
  0x46: 'FLOAT',
  0x49: 'INT',
  0x4c: 'LONG',
  0x53: 'STRING',
  0x56: 'UNICODE',
  0x63: 'GLOBAL',
  0x67: 'GET',
  0x69: 'INST',
  0x70: 'PUT',
}

/** Takes an operation, of which one byte has been filled; a promise if more must be read from the file. */
export function readOpcode(input: PickleInput): Operation | Promise<Operation> {
  const code = input.byte()
  const plain = PLAIN[code]
  if (plain !== undefined) return plain
  const fixed = FIXED[code]
  if (fixed !== undefined) {
    const [name, bytes, decode] = fixed
    const take = () => ({ name, operand: decode(input.take(bytes)) })
    return input.has(bytes) ? take() : input.fill(bytes).then(take)
  }
  if (COUNTED[code] !== undefined) return readCounted(input, ...COUNTED[code])
  if (LINES[code] !== undefined) return readLine(input, LINES[code])
  throw badFormat(
    input.path,
    `pickle, byte ${input.position - 1}: operation 0x${code.toString(16).padStart(2, '0')} is not supported`,
  )
}

async function readCounted(
  input: PickleInput,
  kind: 'TEXT' | 'BYTES' | 'INTEGER',
  lengthBytes: 1 | 4 | 8,
): Promise<Operation> {
  const start = input.position - 1
  await input.fill(lengthBytes)
  const prefix = input.take(lengthBytes)
  const length = lengthBytes === 8 ? Number(prefix.readBigUInt64LE()) : prefix.readUIntLE(0, lengthBytes)
  if (kind === 'BYTES') {
    await input.skip(length)
    return { name: 'BYTES', operand: null }
  }
  const limit = kind === 'TEXT' ? MAX_TEXT : MAX_INTEGER
  if (length > limit)
    throw badFormat(input.path, `pickle, byte ${start}: expected at most ${limit} bytes, found ${length}`)
  await input.fill(length)
  const bytes = input.take(length)
  if (kind === 'TEXT') return { name: 'TEXT', operand: bytes.toString('utf8') }
  return { name: 'VALUE', operand: integer(bytes) }
}

/** A two's complement number, lowest byte first. */
function integer(bytes: Buffer): number | bigint {
  if (bytes.length === 0) return 0
  const value = BigInt.asIntN(bytes.length * 8, BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`))
  return small(value)
}

/** As a number if it can be one. */
function small(value: bigint): number | bigint {
  const number = Number(value)
  return Number.isSafeInteger(number) ? number : value
}

async function readLine(input: PickleInput, name: string): Promise<Operation> {
  const start = input.position - 1
  const line = await input.line(MAX_LINE)
  const fail = () =>
    badFormat(input.path, `pickle, byte ${start}: expected an operand of ${name}, found another text`)
  switch (name) {
    case 'GLOBAL':
    case 'INST':
      return { name, operand: [line, await input.line(MAX_LINE)] }
    case 'GET':
    case 'PUT':
      if (!/^\d{1,10}$/.test(line)) throw fail()
      return { name, operand: Number(line) }
    case 'INT':
    case 'LONG': {
      if (line === '00' || line === '01') return { name: 'VALUE', operand: line === '01' }
      const digits = /^(-?\d{1,600})L?$/.exec(line)?.[1]
      if (digits === undefined) throw fail()
      return { name: 'VALUE', operand: small(BigInt(digits)) }
    }
    case 'FLOAT':
      return { name: 'VALUE', operand: Number(line) }
    default:
      return { name: 'TEXT', operand: line }
  }
}
