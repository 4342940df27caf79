/**
 * `npm run asan`: the engine's tests under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer, in a build folder
 * of their own. Arguments go to the tests: `npm run asan -- models/`.
 */
import { spawnSync } from 'node:child_process'
import { availableParallelism } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const build = process.env.ND_ASAN_BUILD ?? join(root, 'build', 'asan')

function run(command, args, env = {}) {
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  if (error) console.error(`${command}: ${error.message}`)
  if (status !== 0) process.exit(status ?? 1)
}

run('cmake', [
  '-S', '.', '-B', build, '-DND_TESTS=ON', '-DND_SANITIZE=address,undefined', '-DCMAKE_BUILD_TYPE=Release',
]) // prettier-ignore
run('cmake', [
  '--build', build, '--parallel', String(availableParallelism()), '--target', 'engine-tests',
]) // prettier-ignore
run(join(build, 'engine-tests'), process.argv.slice(2), {
  ASAN_OPTIONS: 'detect_leaks=1:abort_on_error=0:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
})
