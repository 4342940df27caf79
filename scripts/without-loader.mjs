/**
 * An ELF library for glibc that musl loads, too. musl takes libc.so.6, libm.so.6 and the like for itself and does not look at
 * the versions of symbols, but knows no file of glibc's dynamic loader. With glibc, the loader is in every process, whether
 * or not a library names it.
 */

const DYNAMIC = 6
const NEEDED = 1n
const entrySize = 16

/** Sections: [type, offset, size, link], of the headers' table. */
function sections(bytes) {
  if (bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2)
    throw new Error('Expected a 64-bit ELF file')
  const table = Number(bytes.readBigUInt64LE(40))
  return Array.from({ length: bytes.readUInt16LE(60) }, (_, i) => {
    const at = table + i * bytes.readUInt16LE(58)
    return {
      type: bytes.readUInt32LE(at + 4),
      offset: Number(bytes.readBigUInt64LE(at + 24)),
      size: Number(bytes.readBigUInt64LE(at + 32)),
      link: bytes.readUInt32LE(at + 40),
    }
  })
}

/** A copy of the library without the dynamic loader in the list of the libraries that it needs. */
export function withoutLoader(bytes) {
  const all = sections(bytes)
  const dynamic = all.find(({ type }) => type === DYNAMIC)
  if (!dynamic) throw new Error('Expected a shared library')
  const strings = all[dynamic.link].offset
  const kept = []
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.size; at += entrySize) {
    const name = strings + Number(bytes.readBigUInt64LE(at + 8))
    const loader =
      bytes.readBigUInt64LE(at) === NEEDED && bytes.toString('latin1', name, name + 8) === 'ld-linux'
    if (!loader) kept.push(bytes.subarray(at, at + entrySize))
  }
  const result = Buffer.from(bytes)
  const list = Buffer.concat(kept)
  // What is left over is zeros, which end the list.
  result.fill(0, dynamic.offset, dynamic.offset + dynamic.size)
  list.copy(result, dynamic.offset)
  return result
}
