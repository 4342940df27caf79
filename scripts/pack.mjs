/**
 * `npm run pack`: the package as it is published, in build/package and as build/node-diffusion-<version>.tgz. It differs from the
 * checkout: no scripts, no development dependencies and no comments in the code; one file of declarations for `import` and one
 * for `require()`; and the addon's sources, with the headers that compiling them needs, in an archive, sources.br. All prebuilds have to be there (npm run prebuild:all); with `--own-build` the addon
 * in build/Release takes the place of this platform's, and others may be missing, which is for tests.
 */
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'
import ts from 'typescript'
import { writeArchive } from './archive.mjs'
import { root } from './build-addon.mjs'
import { ownPlatform, platforms } from './platforms.mjs'
import { recompress } from './zopfli.mjs'

/** Bytes that the package with all prebuilds may have: as a tarball, and installed. */
export const maxTarball = 23e6
export const maxInstalled = 32e6

const headers = {
  'node-addon-api': {
    from: 'node-addon-api',
    files: ['napi.h', 'napi-inl.h', 'napi-inl.deprecated.h', 'LICENSE.md'],
  },
  'node-api': {
    from: 'node-api-headers',
    files: [
      ...['js_native_api.h', 'js_native_api_types.h', 'node_api.h', 'node_api_types.h'].map(
        (name) => `include/${name}`,
      ),
      ...['def/node_api.def', 'LICENSE'],
    ],
  },
}

/** Goes before the declarations: they need nothing that TypeScript does not bring. Empty where Node's or the DOM's are there. */
const declarationsBegin = `/// <reference lib="esnext.disposable" />
declare global {
  interface AbortSignal {}
}
`

function npm(args, cwd) {
  const output = execFileSync('npm', [...args, '--json', '--ignore-scripts', '--silent'], {
    cwd,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  })
  // An array, or in newer versions an object by name.
  return Object.values(JSON.parse(output))[0]
}

/** The public types alone, in one file: those of internal modules mention Node's. */
async function declarations() {
  const [{ rollup }, { dts }] = await Promise.all([import('rollup'), import('rollup-plugin-dts')])
  const bundle = await rollup({
    input: join(root, 'dist', 'index.d.ts'),
    external: [/^node:/, 'sharp'],
    plugins: [dts({ compilerOptions: { types: [] } })],
    onwarn: (warning) => {
      throw new Error(warning.message)
    },
  })
  const { output } = await bundle.generate({ format: 'es' })
  const foreign = /\bfrom '.*|\b(Buffer|NodeJS)\b/.exec(output[0].code.replace(/\/\*[^]*?\*\//g, ''))
  if (foreign) throw new Error(`The public types mention what not every program declares: ${foreign[0]}`)
  return declarationsBegin + output[0].code
}

/** What only `node-diffusion build` needs. */
function isSource(path) {
  return /^(binding|cpp|cmake|headers|scripts|CMakeLists\.txt)(\/|$)/.test(path)
}

/** A quarter of the code is comments, which are in the repository and in the declarations. */
function removeComments(file) {
  const { outputText } = ts.transpileModule(readFileSync(file, 'utf8'), {
    fileName: file,
    compilerOptions: { removeComments: true, target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.Preserve },
  })
  writeFileSync(file, outputText)
}

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true })
  copyFileSync(from, to)
}

/** Makes the package; returns the tarball's path and what npm says of it. */
export async function pack({ ownBuild = false } = {}) {
  const folder = join(root, 'build', 'package')
  rmSync(folder, { recursive: true, force: true })
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

  const sources = Object.entries(headers).flatMap(([name, { from, files }]) =>
    files.map((file) => [
      `headers/${name}/${file.split('/').at(-1)}`,
      readFileSync(join(root, 'node_modules', from, file)),
    ]),
  )
  for (const { path } of npm(['pack', '--dry-run'], root).files) {
    if (isSource(path)) sources.push([path, readFileSync(join(root, path))])
    else if (!/^dist\/.*\.d\.ts$|^prebuilds\//.test(path)) copy(join(root, path), join(folder, path))
  }
  writeArchive(
    join(folder, 'sources.br'),
    sources.sort(([a], [b]) => (a < b ? -1 : 1)),
  )
  for (const name of readdirSync(join(folder, 'dist'), { recursive: true }))
    if (/\.c?js$/.test(name)) removeComments(join(folder, 'dist', name))
  chmodSync(join(folder, manifest.bin['node-diffusion']), 0o755)

  for (const [name, { file }] of Object.entries(platforms)) {
    const built = join(root, 'build', 'Release', 'node_diffusion.node')
    const from = ownBuild && name === ownPlatform ? built : join(root, 'prebuilds', file)
    if (existsSync(from)) copy(from, join(folder, 'prebuilds', file))
    else if (!ownBuild) throw new Error(`${from} is missing: npm run prebuild:all`)
  }
  // Kernels for GPUs are the same on all platforms.
  const cuda = ['prebuilds', 'build/Release']
    .map((parent) => join(root, parent, 'cuda'))
    .find((path) => existsSync(path))
  if (cuda)
    for (const name of readdirSync(cuda)) copy(join(cuda, name), join(folder, 'prebuilds', 'cuda', name))
  else if (!ownBuild) throw new Error('prebuilds/cuda is missing: npm run prebuild:all -- cuda')
  if (!ownBuild) copy(join(root, 'prebuilds', 'SHA256SUMS'), join(folder, 'prebuilds', 'SHA256SUMS'))

  // One copy: an ES module may export everything of a CommonJS module, but not the other way round.
  writeFileSync(join(folder, 'dist', 'index.d.cts'), await declarations())
  writeFileSync(join(folder, 'dist', 'index.d.ts'), "export * from './index.cjs'\n")

  for (const key of ['private', 'scripts', 'devDependencies']) delete manifest[key]
  manifest.files = [...manifest.files.filter((pattern) => !isSource(pattern)), 'sources.br']
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`)

  const destination = join(root, 'build')
  const packed = npm(['pack', '--pack-destination', destination], folder)
  const tarball = join(destination, packed.filename)
  if (!ownBuild) packed.size = recompress(tarball)
  if (!ownBuild && (packed.size > maxTarball || packed.unpackedSize > maxInstalled))
    throw new Error(
      `The package has ${packed.size} bytes (at most ${maxTarball}), and ${packed.unpackedSize} installed (at most ${maxInstalled})`,
    )
  return { ...packed, folder, tarball }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  try {
    const { tarball, size, unpackedSize, entryCount } = await pack({
      ownBuild: process.argv.includes('--own-build'),
    })
    console.log(
      `${tarball}: ${(size / 1e6).toFixed(2)} MB, unpacked ${(unpackedSize / 1e6).toFixed(2)} MB in ${entryCount} files`,
    )
  } catch (error) {
    console.error(error.message)
    process.exitCode = 1
  }
}
