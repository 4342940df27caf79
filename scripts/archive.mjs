/** Archives in the package: files that few users need, or that are alike, as one Brotli stream. lib/archive.ts reads them. */
import { writeFileSync } from 'node:fs'
import { brotliCompressSync, constants } from 'node:zlib'

/** Writes [name, content] pairs; returns the archive's size in bytes. */
export function writeArchive(path, files) {
  const names = JSON.stringify(files.map(([name, content]) => [name, content.length]))
  const packed = brotliCompressSync(
    Buffer.concat([Buffer.from(`${names}\n`), ...files.map(([, one]) => one)]),
    {
      // A window over all of the files.
      params: { [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS },
    },
  )
  writeFileSync(path, packed)
  return packed.length
}
