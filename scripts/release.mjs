/**
 * `npm run release`: everything that a release consists of, in build/release: the tarball, the bill of materials, the symbols of the
 * prebuilds, the notes, and the checksums of all. It publishes nothing and changes no file of the tree. `npm run release -- 1.2.3`
 * also names the version: package.json and the changelog are changed, and the commands that remain are printed.
 *
 * It stops if the changelog has no section for the version, if the tree has changes, or if a prebuild or a check fails.
 * `--allow-dirty` is for trying it.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { root } from './build-addon.mjs'
import { pack } from './pack.mjs'
import { platforms } from './platforms.mjs'
import { billOfMaterials } from './sbom.mjs'

const args = process.argv.slice(2)
const allowDirty = args.includes('--allow-dirty')
const version = args.find((arg) => !arg.startsWith('-'))
const out = join(root, 'build', 'release')
const path = (name) => join(root, name)

function run(command, list) {
  const { status, error } = spawnSync(command, list, { cwd: root, stdio: 'inherit' })
  if (error || status !== 0) throw new Error(`${command} ${list.join(' ')} failed`)
}

/** The part of the changelog under a heading, undefined if there is none. */
function section(heading) {
  const changelog = readFileSync(path('CHANGELOG.md'), 'utf8')
  const parts = changelog.split(/^## /m).slice(1)
  return parts
    .find((part) => part.startsWith(`[${heading}]`))
    ?.replace(/^.*\n/, '')
    .trim()
}

/** Gives the unreleased changes a version. */
function nameVersion() {
  if (!/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))
    throw new Error(`${version}: expected a version such as 1.2.3`)
  if (!section('Unreleased')) throw new Error('CHANGELOG.md has no unreleased changes')
  const today = new Date().toISOString().slice(0, 10)
  const changelog = readFileSync(path('CHANGELOG.md'), 'utf8')
  writeFileSync(
    path('CHANGELOG.md'),
    changelog.replace('## [Unreleased]\n', `## [Unreleased]\n\n## [${version}] - ${today}\n`),
  )
  run('npm', ['version', version, '--no-git-tag-version', '--ignore-scripts', '--allow-same-version'])
  console.log(`Next:
  git commit -am "Version ${version}"
  npm run release
  git tag v${version} && git push --follow-tags   # the workflow publishes`)
}

async function prepare() {
  const changes = execFileSync('git', ['status', '--porcelain'], { cwd: root, encoding: 'utf8' })
  if (changes && !allowDirty) throw new Error(`The tree has changes:\n${changes}`)
  const own = JSON.parse(readFileSync(path('package.json'), 'utf8')).version
  const notes = section(own)
  if (!notes) throw new Error(`CHANGELOG.md has no section for ${own}`)

  run(process.execPath, [path('scripts/build.mjs')])
  run(process.execPath, [path('scripts/prebuild.mjs')])
  run(process.execPath, [path('scripts/prebuild.mjs'), '--verify'])
  const { tarball, size, unpackedSize } = await pack()
  const checks = ['npm install', 'npx', 'require', 'size', 'types', 'publint', 'bill of', 'file of']
  run(process.execPath, [path('scripts/test-platforms.mjs'), ...checks])

  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  copyFileSync(tarball, join(out, basename(tarball)))
  writeFileSync(join(out, 'notes.md'), `${notes}\n`)
  writeFileSync(join(out, 'sbom.cdx.json'), `${JSON.stringify(billOfMaterials(tarball), null, 2)}\n`)
  for (const name of Object.keys(platforms)) {
    const folder = join(root, 'build', 'symbols', name)
    if (existsSync(folder))
      run('tar', ['-czf', join(out, `symbols-${name}.tar.gz`), '-C', join(root, 'build', 'symbols'), name])
  }
  const lines = readdirSync(out)
    .sort()
    .map(
      (name) =>
        `${createHash('sha256')
          .update(readFileSync(join(out, name)))
          .digest('hex')}  ${name}\n`,
    )
  writeFileSync(join(out, 'SHA256SUMS'), lines.join(''))
  console.log(
    `${out}: ${own}, ${(size / 1e6).toFixed(2)} MB, unpacked ${(unpackedSize / 1e6).toFixed(2)} MB. Nothing was published.`,
  )
}

try {
  if (version) nameVersion()
  else await prepare()
} catch (error) {
  console.error(error.message)
  process.exitCode = 1
}
