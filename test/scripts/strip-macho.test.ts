/** Mach-O libraries without local symbols, on a small one made for it; npm run test:platforms checks those of the prebuilds. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const load = (name: string): Promise<unknown> =>
  import(pathToFileURL(join(packageRoot(), 'scripts', name)).href)
const { stripMachO } = (await load('strip-macho.mjs')) as {
  stripMachO(bytes: Buffer): { stripped: Buffer; whole: Buffer }
}
const { signMachO } = (await load('sign-macho.mjs')) as {
  signMachO(bytes: Buffer, identifier: string): Buffer
}

const [SEGMENT, SYMTAB, DYSYMTAB, UUID, SIGNATURE] = [0x19, 2, 0xb, 0x1b, 0x1d]
const LOCAL = 0x80000000
const commandsSize = 72 + 72 + 24 + 80 + 24
const symbolsAt = 0x400

const names = ['a_local', 'of_unit', 'exported', 'malloc', 'free']
/** malloc, of_unit (a pointer of the library itself), free, one that never had a name. */
const indirect = [3, 1, 4, LOCAL]

/** A library with two local symbols, an exported and two imported ones; `path` is the name of the second local one. */
function library(path = names[1]): Buffer {
  const table = Buffer.alloc(16 * names.length)
  let strings = Buffer.alloc(1)
  names
    .map((name, i) => (i === 1 ? path : name))
    .forEach((name, i) => {
      table.writeUInt32LE(strings.length, 16 * i)
      table.writeUInt32LE(0x100 + i, 16 * i + 8)
      strings = Buffer.concat([strings, Buffer.from(`${name}\0`)])
    })
  const pointers = Buffer.alloc(4 * indirect.length)
  indirect.forEach((symbol, i) => pointers.writeUInt32LE(symbol, 4 * i))
  const head = Buffer.alloc(symbolsAt, 0x5a).fill(0, 0, 32 + commandsSize + 32)
  const bytes = Buffer.concat([head, table, pointers, strings])
  ;[0xfeedfacf, 0x1000007, 3, 6, 5, commandsSize].forEach((value, i) => bytes.writeUInt32LE(value, 4 * i))
  let at = 32
  const command = (kind: number, size: number, fields: readonly number[]): void => {
    ;[kind, size, ...fields].forEach((value, i) => bytes.writeUInt32LE(value, at + 4 * i))
    at += size
  }
  const segment = (name: string, offset: number, size: number): void => {
    bytes.write(name, at + 8)
    bytes.writeBigUInt64LE(BigInt(offset), at + 40)
    bytes.writeBigUInt64LE(BigInt(size), at + 48)
    bytes.writeUInt32LE(SEGMENT, at)
    bytes.writeUInt32LE(72, at + 4)
    at += 72
  }
  segment('__TEXT', 0, 0x300)
  segment('__LINKEDIT', 0x300, bytes.length - 0x300)
  const pointersAt = symbolsAt + table.length
  const stringsAt = pointersAt + pointers.length
  command(SYMTAB, 24, [symbolsAt, names.length, stringsAt, strings.length])
  command(DYSYMTAB, 80, [0, 2, 2, 1, 3, 2, 0, 0, 0, 0, 0, 0, pointersAt, indirect.length])
  command(UUID, 24, [1, 2, 3, 4])
  return bytes
}

function commands(bytes: Buffer): { kind: number; at: number }[] {
  let at = 32
  return Array.from({ length: bytes.readUInt32LE(16) }, () => {
    const one = { kind: bytes.readUInt32LE(at), at }
    at += bytes.readUInt32LE(at + 4)
    return one
  })
}

const find = (bytes: Buffer, wanted: number): number =>
  commands(bytes).find(({ kind }) => kind === wanted)!.at
const uuidOf = (bytes: Buffer): string => bytes.toString('hex', find(bytes, UUID) + 8, find(bytes, UUID) + 24)

/** Symbols with their values, and the indirect ones by name. */
function read(bytes: Buffer): { symbols: [string, number][]; pointers: (string | null)[]; fields: number[] } {
  const field = (at: number): number => bytes.readUInt32LE(at)
  const [symtab, dysymtab] = [find(bytes, SYMTAB), find(bytes, DYSYMTAB)]
  const [table, count, strings, size] = [8, 12, 16, 20].map((at) => field(symtab + at))
  const symbols = Array.from({ length: count }, (_, i): [string, number] => {
    const begin = field(table + 16 * i)
    if (begin >= size) throw new Error(`name ${i} is outside of the names`)
    const at = strings + begin
    return [bytes.toString('latin1', at, bytes.indexOf(0, at)), field(table + 16 * i + 8)]
  })
  const pointers = Array.from({ length: field(dysymtab + 60) }, (_, i) => {
    const symbol = field(field(dysymtab + 56) + 4 * i)
    return symbol === LOCAL ? null : symbols[symbol][0]
  })
  return { symbols, pointers, fields: [8, 12, 16, 20, 24, 28].map((at) => field(dysymtab + at)) }
}

t.test('only local symbols go, and what points to symbols follows', async (t) => {
  const bytes = library()
  const { stripped, whole } = stripMachO(bytes)
  t.same(read(stripped), {
    symbols: [
      ['exported', 0x102],
      ['malloc', 0x103],
      ['free', 0x104],
    ],
    pointers: ['malloc', null, 'free', null],
    fields: [0, 0, 0, 1, 1, 2],
  })
  t.notOk(stripped.includes('a_local'))
  const linkedit = 32 + 72
  t.equal(Number(stripped.readBigUInt64LE(linkedit + 48)), stripped.length - 0x300)
  t.ok(stripped.subarray(32 + commandsSize, symbolsAt).equals(bytes.subarray(32 + commandsSize, symbolsAt)))

  t.equal(uuidOf(stripped), uuidOf(whole), 'debuggers find the symbols')
  t.match(uuidOf(stripped), /^.{12}8.{3}[89ab]/, 'a UUID of version 8')
  const restored = Buffer.from(whole)
  bytes.copy(restored, find(bytes, UUID) + 8, find(bytes, UUID) + 8, find(bytes, UUID) + 24)
  t.ok(restored.equals(bytes), 'the other file is as it was')
  t.doesNotThrow(() => signMachO(stripped, 'an-addon'))
})

t.test('the result depends on nothing but what stays', async (t) => {
  const { stripped } = stripMachO(library())
  t.ok(stripMachO(library('/another/folder/unit.o')).stripped.equals(stripped))
  const other = library()
  other[0x310] ^= 1
  t.not(uuidOf(stripMachO(other).stripped), uuidOf(stripped))
})

t.test('a signature of the linker goes', async (t) => {
  const signed = signMachO(library(), 'linker')
  t.ok(commands(signed).some(({ kind }) => kind === SIGNATURE))
  const { stripped } = stripMachO(signed)
  t.notOk(commands(stripped).some(({ kind }) => kind === SIGNATURE))
  t.ok(stripped.equals(stripMachO(library()).stripped))
})

t.test('what cannot be stripped', async (t) => {
  t.throws(() => stripMachO(Buffer.from('\x7fELF')), /Expected a 64-bit Mach-O file/)
  const nameless = library()
  nameless.writeUInt32LE(0x26, find(nameless, UUID))
  t.throws(() => stripMachO(nameless), /Expected a Mach-O library with load command 27/)
  const longer = Buffer.concat([library(), Buffer.alloc(64)])
  t.throws(() => stripMachO(longer), /ends with its symbols and their names/)
})
