/**
 * A 64-bit Mach-O library without the names of its local symbols, made from the one that has them: zig's linker, told to
 * leave them out, writes a table of indirect symbols that lacks the pointers to them, so that those after them are off, and
 * what memory holds at its end. The stripped file's UUID is made of its content, and is written into both: debuggers find
 * a library's symbols by it.
 */
import { createHash } from 'node:crypto'
import { loadCommands, segments } from './sign-macho.mjs'

const SYMTAB = 0x2
const DYSYMTAB = 0xb
const UUID = 0x1b
const CODE_SIGNATURE = 0x1d
/** An indirect symbol without a name. */
const INDIRECT_LOCAL = 0x80000000
const symbolSize = 16

const align = (value, to) => Math.ceil(value / to) * to

/** Makes the last segment end where the file does. */
function endsWithLinkedit(bytes) {
  const linkedit = segments(bytes).find(({ name }) => name === '__LINKEDIT')
  if (!linkedit) throw new Error('Expected a Mach-O library with __LINKEDIT')
  const size = bytes.length - linkedit.offset
  bytes.writeBigUInt64LE(BigInt(size), linkedit.at + 48)
  // In memory, whole pages of the processor, of which arm64's are the largest.
  bytes.writeBigUInt64LE(BigInt(align(size, 0x4000)), linkedit.at + 32)
}

/** Removes the last load command and what it describes, the signature, where there is one. */
function withoutSignature(bytes) {
  const commands = loadCommands(bytes)
  const last = commands.at(-1)
  if (last?.command !== CODE_SIGNATURE) return Buffer.from(bytes)
  const result = Buffer.from(bytes.subarray(0, bytes.readUInt32LE(last.at + 8)))
  result.writeUInt32LE(commands.length - 1, 16)
  result.writeUInt32LE(bytes.readUInt32LE(20) - last.size, 20)
  result.fill(0, last.at, last.at + last.size)
  endsWithLinkedit(result)
  return result
}

/** The symbols from `first` on, and their names as a table that begins with an empty one. */
function symbolsFrom(bytes, first, count, symbols, strings) {
  const table = Buffer.from(bytes.subarray(symbols + symbolSize * first, symbols + symbolSize * count))
  const names = [Buffer.alloc(1)]
  let end = 1
  for (let at = 0; at < table.length; at += symbolSize) {
    const begin = strings + table.readUInt32LE(at)
    const name = bytes.subarray(begin, bytes.indexOf(0, begin) + 1)
    table.writeUInt32LE(end, at)
    names.push(name)
    end += name.length
  }
  return { table, names: Buffer.concat(names, align(end, 8)) }
}

/**
 * The library without local symbols, unsigned, and the one with all of them under the same UUID.
 *
 * @throws {Error} it is no 64-bit Mach-O library, has no table of symbols or no UUID, or something follows its symbols
 */
export function stripMachO(bytes) {
  const whole = withoutSignature(bytes)
  const commands = loadCommands(whole)
  const [symtab, dysymtab, uuid] = [SYMTAB, DYSYMTAB, UUID].map((kind) => {
    const found = commands.find(({ command }) => command === kind)
    if (!found) throw new Error(`Expected a Mach-O library with load command ${kind}`)
    return found.at
  })
  const field = (at) => whole.readUInt32LE(at)
  const [symbols, count, strings, stringsSize] = [8, 12, 16, 20].map((at) => field(symtab + at))
  const [locals, indirect, indirectCount] = [12, 56, 60].map((at) => field(dysymtab + at))
  const inOrder =
    field(dysymtab + 16) === locals &&
    symbols + symbolSize * count === indirect &&
    align(indirect + 4 * indirectCount, 8) === strings &&
    align(strings + stringsSize, 16) >= whole.length
  if (!inOrder) throw new Error('Expected a Mach-O library that ends with its symbols and their names')

  const { table, names } = symbolsFrom(whole, locals, count, symbols, strings)
  const pointers = Buffer.alloc(align(4 * indirectCount, 8))
  for (let i = 0; i < indirectCount; i++) {
    const symbol = field(indirect + 4 * i)
    const kept = symbol >= INDIRECT_LOCAL ? symbol : symbol < locals ? INDIRECT_LOCAL : symbol - locals
    pointers.writeUInt32LE(kept, 4 * i)
  }
  const stripped = Buffer.concat([whole.subarray(0, symbols), table, pointers, names])
  const write = (at, values) => values.forEach((value, i) => stripped.writeUInt32LE(value, at + 4 * i))
  const pointersAt = symbols + table.length
  write(symtab + 8, [symbols, count - locals, pointersAt + pointers.length, names.length])
  // Local symbols, then those that the library exports, then those that it needs: the first and the number of each.
  write(dysymtab + 8, [0, 0, 0, field(dysymtab + 20), field(dysymtab + 24) - locals, field(dysymtab + 28)])
  write(dysymtab + 56, [pointersAt, indirectCount])
  endsWithLinkedit(stripped)

  stripped.fill(0, uuid + 8, uuid + 24)
  const digest = createHash('sha256').update(stripped).digest()
  // RFC 9562, version 8: of a kind of one's own.
  digest[6] = (digest[6] & 0x0f) | 0x80
  digest[8] = (digest[8] & 0x3f) | 0x80
  for (const file of [stripped, whole]) digest.copy(file, uuid + 8, 0, 16)
  return { stripped, whole }
}
