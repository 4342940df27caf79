/**
 * `npm run test:platforms`: the package as it is installed, on every platform and in every host that this machine has or can
 * emulate; it says what it could not run. `--fast` makes the quick checks of this platform alone, which need no prebuilds: the
 * addon of the checkout takes their place. Other arguments are parts of names of checks.
 */
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { binaryChecks } from '../test/platforms/binaries.mjs'
import { bundlerChecks } from '../test/platforms/bundlers.mjs'
import { emulatedChecks } from '../test/platforms/emulated.mjs'
import { installedChecks } from '../test/platforms/installed.mjs'
import { managerChecks } from '../test/platforms/managers.mjs'
import { runtimeChecks } from '../test/platforms/runtimes.mjs'
import { drawing, NotRun, project, run } from '../test/platforms/support.mjs'
import { root } from './build-addon.mjs'
import { pack } from './pack.mjs'
import { platforms } from './platforms.mjs'

const args = process.argv.slice(2)
const fast = args.includes('--fast')
const filters = args.filter((arg) => !arg.startsWith('-'))

/** The picture of the checkout. */
async function draw(precision) {
  const folder = project()
  mkdirSync(join(folder, 'node_modules'))
  symlinkSync(root, join(folder, 'node_modules', 'node-diffusion'))
  return drawing(await run(process.execPath, ['draw.mjs', precision], { cwd: folder }))
}

const missing = Object.keys(platforms).filter(
  (name) => !existsSync(join(root, 'prebuilds', platforms[name].file)),
)
const complete = !fast && missing.length === 0
const packed = await pack({ ownBuild: !complete })
const context = { ...packed, complete, reference: await draw('auto'), draw }
const checks = [
  ...installedChecks(context),
  ...binaryChecks(context),
  ...emulatedChecks(context),
  ...managerChecks(context),
  ...runtimeChecks(context),
  ...bundlerChecks(context),
]

const counts = { passed: 0, failed: 0 }
const notRun =
  complete || fast ? [] : [`prebuilds that are missing: ${missing.join(', ')} (npm run prebuild:all)`]
for (const check of checks) {
  if (fast && !check.fast) continue
  if (filters.length > 0 && !filters.some((filter) => check.name.includes(filter))) continue
  const began = performance.now()
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(1)} s`
  try {
    const note = await check.run()
    counts.passed++
    console.log(`passed  ${check.name}${note ? `: ${note}` : ''} (${seconds()})`)
  } catch (error) {
    if (error instanceof NotRun) {
      notRun.push(`${check.name}: ${error.message}`)
      continue
    }
    counts.failed++
    console.log(`failed  ${check.name}: ${error.message} (${seconds()})`)
  }
}
for (const line of notRun) console.log(`not run  ${line}`)
console.log(`${counts.passed} passed, ${counts.failed} failed`)
process.exitCode = counts.failed > 0 ? 1 : 0
