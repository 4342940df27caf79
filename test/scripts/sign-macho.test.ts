/** The ad-hoc signature of Mach-O files, on a small library made for it; npm run test:platforms checks those of the prebuilds. */
import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const { signMachO } = (await import(
  pathToFileURL(join(packageRoot(), 'scripts', 'sign-macho.mjs')).href
)) as { signMachO(bytes: Buffer, identifier: string): Buffer }

const headerSize = 32
const segmentSize = 72 + 80 // with one section
const textSize = 0x2000

/** A library of two segments, whose first section begins `room` bytes after the load commands. */
function library(room: number, linkeditSize = 1001): Buffer {
  const bytes = Buffer.alloc(textSize + linkeditSize, 0x5a)
  const commands = segmentSize + 72
  bytes.fill(0, 0, headerSize + commands + room)
  ;[0xfeedfacf, 0x1000007, 3, 6, 2, commands].forEach((value, i) => bytes.writeUInt32LE(value, 4 * i))
  const segment = (at: number, name: string, offset: number, size: number, sections: number) => {
    bytes.writeUInt32LE(0x19, at)
    bytes.writeUInt32LE(72 + 80 * sections, at + 4)
    bytes.write(name, at + 8)
    ;[offset, size, offset, size].forEach((value, i) =>
      bytes.writeBigUInt64LE(BigInt(value), at + 24 + 8 * i),
    )
    bytes.writeUInt32LE(sections, at + 64)
  }
  segment(headerSize, '__TEXT', 0, textSize, 1)
  bytes.writeUInt32LE(headerSize + commands + room, headerSize + 72 + 48)
  segment(headerSize + segmentSize, '__LINKEDIT', textSize, linkeditSize, 0)
  return bytes
}

t.test('the code directory has the hash of each page', async (t) => {
  const bytes = library(64)
  const signed = signMachO(bytes, 'an-addon')
  const command = headerSize + segmentSize + 72
  t.equal(signed.readUInt32LE(16), 3, 'one more load command')
  t.equal(signed.readUInt32LE(20), segmentSize + 72 + 16)
  const [kind, size, start, length] = [0, 4, 8, 12].map((at) => signed.readUInt32LE(command + at))
  t.same([kind, size, start % 16, start + length], [0x1d, 16, 0, signed.length])
  t.ok(start >= bytes.length)
  const linkedit = headerSize + segmentSize
  t.equal(Number(signed.readBigUInt64LE(linkedit + 48)), signed.length - textSize, 'in the last segment')
  t.ok(Number(signed.readBigUInt64LE(linkedit + 32)) >= signed.length - textSize)
  t.ok(
    signed.subarray(command + 16, bytes.length).equals(bytes.subarray(command + 16)),
    'the rest is as it was',
  )

  t.equal(signed.readUInt32BE(start), 0xfade0cc0)
  t.equal(signed.readUInt32BE(start + 4), length)
  const directory = start + signed.readUInt32BE(start + 16)
  t.equal(signed.readUInt32BE(directory), 0xfade0c02)
  t.equal(signed.readUInt32BE(directory + 4), signed.length - directory)
  t.equal(signed.readUInt32BE(directory + 12) & 2, 2, 'ad hoc')
  t.equal(signed.readUInt32BE(directory + 32), start, 'all that is before the signature')
  const name = directory + signed.readUInt32BE(directory + 20)
  t.equal(signed.toString('latin1', name, name + 9), 'an-addon\0')
  const hashes = directory + signed.readUInt32BE(directory + 16)
  const pages = signed.readUInt32BE(directory + 28)
  t.equal(pages, 3)
  for (let page = 0; page < pages; page++) {
    const content = signed.subarray(page * 4096, Math.min(start, (page + 1) * 4096))
    const hash = signed.subarray(hashes + 32 * page, hashes + 32 * (page + 1))
    t.ok(createHash('sha256').update(content).digest().equals(hash), `page ${page}`)
  }
  t.ok(signMachO(bytes, 'an-addon').equals(signed), 'the same bytes again')
  t.equal(signMachO(signed, 'another'), signed, 'a signed file stays as it is')
})

t.test('what cannot be signed', async (t) => {
  t.throws(() => signMachO(library(15), 'x'), /Expected 16 bytes after the load commands but found 15/)
  t.equal(signMachO(library(16), 'x').readUInt32LE(16), 3)
  t.throws(() => signMachO(Buffer.from('\x7fELF'), 'x'), /Expected a 64-bit Mach-O file/)
  const longer = Buffer.concat([library(64), Buffer.alloc(1)])
  t.throws(() => signMachO(longer, 'x'), /ends with __LINKEDIT/)
})
