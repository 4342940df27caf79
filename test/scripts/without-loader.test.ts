/** The addon that was built here, without the dynamic loader in its list of libraries; npm run test:platforms has musl. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import t from 'tap'
import { packageRoot } from '../../lib/package-root.js'

const { withoutLoader } = (await import(
  pathToFileURL(join(packageRoot(), 'scripts', 'without-loader.mjs')).href
)) as { withoutLoader(bytes: Buffer): Buffer }

const file = join(packageRoot(), 'build', 'Release', 'node_diffusion.node')

/** The list in the dynamic section: the libraries that are needed, and how many entries there are in all. */
function entries(bytes: Buffer): { needed: string[]; count: number } {
  const headers = Number(bytes.readBigUInt64LE(32))
  const number = bytes.readUInt16LE(56)
  const segment = Array.from({ length: number }, (_, i) => headers + 56 * i).find(
    (at) => bytes.readUInt32LE(at) === 2,
  )!
  const offset = Number(bytes.readBigUInt64LE(segment + 8))
  const all: [bigint, number][] = []
  for (let at = offset; bytes.readBigUInt64LE(at) !== 0n; at += 16)
    all.push([bytes.readBigUInt64LE(at), Number(bytes.readBigUInt64LE(at + 8))])
  const strings = all.find(([tag]) => tag === 5n)![1]
  const name = (at: number): string => bytes.toString('latin1', at, bytes.indexOf(0, at))
  return {
    needed: all.filter(([tag]) => tag === 1n).map(([, value]) => name(strings + value)),
    count: all.length,
  }
}

t.test(
  'only the dynamic loader goes',
  { skip: process.platform !== 'linux' && 'it is for ELF files' },
  (t) => {
    const bytes = readFileSync(file)
    const before = entries(bytes)
    const loader = before.needed.filter((name) => name.startsWith('ld-linux'))
    const result = withoutLoader(bytes)
    const after = entries(result)
    t.same(
      after.needed,
      before.needed.filter((name) => !loader.includes(name)),
    )
    t.equal(after.count, before.count - loader.length, 'all other entries are there')
    t.equal(result.length, bytes.length)
    t.ok(withoutLoader(result).equals(result), 'a file without it stays as it is')
    const path = join(t.testdir(), 'addon.node')
    writeFileSync(path, result)
    const script = `console.log(typeof require(${JSON.stringify(path)}).loadUnet)`
    t.equal(
      execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }).trim(),
      'function',
      'it loads',
    )
    t.end()
  },
)

t.test('other files are refused', (t) => {
  t.throws(() => withoutLoader(Buffer.from('MZ')), { message: 'Expected a 64-bit ELF file' })
  t.end()
})
