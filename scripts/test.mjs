/**
 * `npm test`: the native tests, then the TypeScript ones, and one line that sums both. Exit status 1 when any failed.
 * `npm run test:native` and `npm run test:ts` run some of them.
 */
import { rmSync } from 'node:fs'
import { join } from 'node:path'
import { BuildError, root } from './build-addon.mjs'
import { testNative } from './test-native.mjs'
import { testTs } from './test-ts.mjs'

try {
  // The whole run starts clean; parts of it build on what is there.
  rmSync(join(root, 'build', 'ts'), { recursive: true, force: true })
  const native = await testNative()
  const ts = await testTs()
  const failed = native.failed + ts.failed
  console.log(`${native.passed + ts.passed} passed, ${failed} failed`)
  process.exitCode = failed > 0 ? 1 : 0
} catch (error) {
  console.error(error instanceof BuildError ? error.message : error)
  process.exitCode = 1
}
