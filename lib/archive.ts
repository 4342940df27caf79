import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'

/**
 * The files in an archive of the package (scripts/archive.mjs writes them) by their names. It is one Brotli stream, so that files
 * that are alike take little room: a line of JSON with the [name, bytes] of each, then the files in this order.
 *
 * @throws {Error} it cannot be read, or is damaged
 */
export async function readArchive(path: string): Promise<Map<string, Uint8Array>> {
  const content = await promisify(brotliDecompress)(await readFile(path))
  const line = content.indexOf('\n')
  const files = new Map<string, Uint8Array>()
  let at = line + 1
  for (const [name, bytes] of JSON.parse(content.toString('utf8', 0, line)) as [string, number][])
    files.set(name, content.subarray(at, (at += bytes)))
  return files
}
