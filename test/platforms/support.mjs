/** What the checks of `npm run test:platforms` share. */
import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../../scripts/build-addon.mjs'

/** A check that this machine cannot make; the message says what is missing. */
export class NotRun extends Error {}

export function expect(condition, message) {
  if (!condition) throw new Error(message)
}

/** Runs a program; throws with what it printed if it fails. Returns its standard output. */
export async function run(command, args, { cwd, env, timeout = 600_000 } = {}) {
  try {
    const { stdout } = await promisify(execFile)(command, args, {
      ...{ cwd, timeout, maxBuffer: 1 << 26 },
      env: { ...process.env, ...env },
    })
    return stdout
  } catch (error) {
    const said = `${error.stdout ?? ''}${error.stderr ?? ''}`.trim().split('\n').slice(-15).join('\n')
    throw new Error(`${[command, ...args].join(' ')}: ${said || error.message}`, { cause: error })
  }
}

/** A program's path, or NotRun. */
export function requireProgram(...names) {
  const found = names.find((name) => spawnSync('which', [name]).status === 0)
  if (!found) throw new NotRun(`${names[0]} is not installed`)
  return found
}

/** Packages of the registry in a folder of their own; returns its node_modules. */
export async function fromRegistry(...packages) {
  const folder = mkdtempSync(join(tmpdir(), 'nd-tools-'))
  try {
    // --force: also packages for other platforms.
    await run('npm', [
      'install',
      '--prefix',
      folder,
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      '--force',
      ...packages,
    ])
  } catch (error) {
    throw new NotRun(`${packages.join(', ')} cannot be installed: ${error.message.split('\n').at(-1)}`)
  }
  return join(folder, 'node_modules')
}

/** A project with the script that draws, and whatever `files` has: name to content. */
export function project(files = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'nd-project-'))
  mkdirSync(folder, { recursive: true })
  copyFileSync(join(root, 'test', 'platforms', 'draw.mjs'), join(folder, 'draw.mjs'))
  const all = { 'package.json': '{ "name": "project", "private": true, "type": "module" }', ...files }
  for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), content)
  return folder
}

/** What draw.mjs printed. */
export function drawing(output) {
  const result = JSON.parse(output.trim().split('\n').at(-1))
  return { ...result, pixels: Buffer.from(result.pixels, 'base64') }
}

/** The same picture as `expected`, byte for byte, and not by the reference kernels. */
export function checkSame(got, expected) {
  expect(got.kernel !== 'ref', 'the reference kernels were chosen')
  expect(got.kernel === expected.kernel, `kernels ${got.kernel} instead of ${expected.kernel}`)
  expect(got.pixels.equals(expected.pixels), 'another picture')
}

/** Peak signal-to-noise ratio of 8-bit pixels, in decibels. */
export function psnr(a, b) {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2
  return sum === 0 ? Infinity : 10 * Math.log10((255 ** 2 * a.length) / sum)
}
