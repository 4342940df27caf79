/**
 * An ad-hoc signature for a 64-bit Mach-O library, as ld64 makes it: a code directory with the SHA-256 of each page, and
 * no certificate. Apple's processors load nothing that has none, and macOS can compare what it has loaded with it anywhere.
 * zig's linker signs for arm64 alone.
 */
import { createHash } from 'node:crypto'

const SEGMENT = 0x19
const CODE_SIGNATURE = 0x1d
/** Bytes of the header, of the command that names the signature, and of a code directory of version 2.4. */
const headerSize = 32
const commandSize = 16
const directorySize = 88
/** Pages of the signature, whatever those of the processor are. */
const pageShift = 12
const page = 1 << pageShift

const align = (value, to) => Math.ceil(value / to) * to

/** Load commands of a 64-bit Mach-O file: { command, at, size }. */
export function loadCommands(bytes) {
  if (bytes.length < headerSize || bytes.readUInt32LE(0) !== 0xfeedfacf)
    throw new Error('Expected a 64-bit Mach-O file')
  const commands = []
  for (let at = headerSize; commands.length < bytes.readUInt32LE(16);) {
    const size = bytes.readUInt32LE(at + 4)
    commands.push({ command: bytes.readUInt32LE(at), at, size })
    at += size
  }
  return commands
}

/** Segments: { name, at, vmsize, offset, size, sections: their offsets in the file }. */
export function segments(bytes) {
  return loadCommands(bytes)
    .filter(({ command }) => command === SEGMENT)
    .map(({ at }) => ({
      name: bytes.toString('latin1', at + 8, at + 24).replace(/\0.*$/s, ''),
      at,
      vmsize: Number(bytes.readBigUInt64LE(at + 32)),
      offset: Number(bytes.readBigUInt64LE(at + 40)),
      size: Number(bytes.readBigUInt64LE(at + 48)),
      protection: bytes.readUInt32LE(at + 60),
      // Zero: a section that is not in the file.
      sections: Array.from({ length: bytes.readUInt32LE(at + 64) }, (_, i) =>
        bytes.readUInt32LE(at + 72 + 80 * i + 48),
      ).filter((offset) => offset > 0),
    }))
}

/** The code directory of `code`, all bytes before the signature. */
function codeDirectory(code, textSize, identifier) {
  const name = Buffer.from(`${identifier}\0`)
  const hashes = align(directorySize + name.length, 16)
  const pages = Math.ceil(code.length / page)
  const directory = Buffer.alloc(hashes + 32 * pages)
  const fields = [
    0xfade0c02, // magic
    directory.length,
    0x20400, // version
    0x20002, // flags: ad hoc, by a linker
    hashes,
    directorySize, // where the identifier is
    0, // special slots
    pages,
    code.length,
  ]
  fields.forEach((value, i) => directory.writeUInt32BE(value, 4 * i))
  directory.writeUInt8(32, 36) // bytes of a hash
  directory.writeUInt8(2, 37) // SHA-256
  directory.writeUInt8(pageShift, 39)
  directory.writeBigUInt64BE(BigInt(textSize), 72) // the executable segment, which begins at 0
  name.copy(directory, directorySize)
  for (let i = 0; i < pages; i++)
    createHash('sha256')
      .update(code.subarray(i * page, (i + 1) * page))
      .digest()
      .copy(directory, hashes + 32 * i)
  return directory
}

/**
 * The file with an ad-hoc signature; the file itself if it has one.
 *
 * @throws {Error} it is no 64-bit Mach-O file, or no room is left after its load commands (-headerpad)
 */
export function signMachO(bytes, identifier) {
  const commands = loadCommands(bytes)
  if (commands.some(({ command }) => command === CODE_SIGNATURE)) return bytes
  const all = segments(bytes)
  const [text, linkedit] = ['__TEXT', '__LINKEDIT'].map((name) => all.find((one) => one.name === name))
  if (!text || !linkedit || linkedit.offset + linkedit.size !== bytes.length)
    throw new Error('Expected a Mach-O file with __TEXT that ends with __LINKEDIT')
  const end = headerSize + bytes.readUInt32LE(20)
  const room = Math.min(...all.flatMap(({ sections }) => sections)) - end
  if (room < commandSize)
    throw new Error(`Expected ${commandSize} bytes after the load commands but found ${room}`)

  const start = align(bytes.length, 16)
  const pages = Math.ceil(start / page)
  const directory = align(directorySize + Buffer.byteLength(identifier) + 1, 16) + 32 * pages
  const size = 20 + directory
  const linkeditSize = start + size - linkedit.offset

  const code = Buffer.alloc(start)
  bytes.copy(code)
  code.writeUInt32LE(commands.length + 1, 16)
  code.writeUInt32LE(bytes.readUInt32LE(20) + commandSize, 20)
  for (const [i, value] of [CODE_SIGNATURE, commandSize, start, size].entries())
    code.writeUInt32LE(value, end + 4 * i)
  code.writeBigUInt64LE(BigInt(linkeditSize), linkedit.at + 48)
  // In memory, whole pages of the processor, of which arm64's are the largest.
  code.writeBigUInt64LE(BigInt(align(linkeditSize, 0x4000)), linkedit.at + 32)

  const blob = Buffer.alloc(20)
  // One blob, the code directory (type 0), at byte 20.
  for (const [i, value] of [0xfade0cc0, size, 1, 0, 20].entries()) blob.writeUInt32BE(value, 4 * i)
  return Buffer.concat([code, blob, codeDirectory(code, text.size, identifier)])
}
