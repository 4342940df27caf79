/** What the checks of `npm run test:platforms` share. */
import { execFile, spawnSync } from 'node:child_process'
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { root } from '../../scripts/build-addon.mjs'

/** A check that this machine cannot make; the message says what is missing. */
export class NotRun extends Error {}

export function expect(condition, message) {
  if (!condition) throw new Error(message)
}

let everything

/** A new folder, which is removed when the process ends. */
export function temporary(name) {
  if (!everything) {
    everything = mkdtempSync(join(tmpdir(), 'nd-platforms-'))
    process.on('exit', () => rmSync(everything, { recursive: true, force: true, maxRetries: 3 }))
  }
  return mkdtempSync(join(everything, `${name}-`))
}

/** Runs a program; throws with what it printed if it fails. Returns its standard output, or `all` that it printed. */
export async function run(command, args, { cwd, env, timeout = 600_000, all = false } = {}) {
  // On Windows npm is a script of the shell.
  const shell = process.platform === 'win32' && /^np[mx]$/.test(command) ? ['cmd', '/d', '/s', '/c'] : []
  const [program, ...rest] = [...shell, command, ...args]
  try {
    const { stdout, stderr } = await promisify(execFile)(program, rest, {
      ...{ cwd, timeout, maxBuffer: 1 << 26 },
      env: { ...process.env, ...env },
    })
    return all ? stdout + stderr : stdout
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

const npmInstall = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline']

/** Installs packages of the registry in a folder; NotRun if that fails. */
export async function addFromRegistry(folder, ...packages) {
  try {
    // --force: also packages for other platforms.
    await run('npm', [...npmInstall, '--force', ...packages], { cwd: folder })
  } catch (error) {
    throw new NotRun(`${packages.join(', ')} cannot be installed: ${error.message.split('\n').at(-1)}`)
  }
}

/** Packages of the registry in a folder of their own; returns its node_modules. */
export async function fromRegistry(...packages) {
  const folder = temporary('tools')
  writeFileSync(join(folder, 'package.json'), '{ "private": true }')
  await addFromRegistry(folder, ...packages)
  return join(folder, 'node_modules')
}

/** Node.js of this version, for this platform. */
export async function nodeProgram(version) {
  const name = `node-${process.platform}-${process.arch}`
  const file = process.platform === 'win32' ? 'node.exe' : 'node'
  return join(await fromRegistry(`${name}@${version}`), name, 'bin', file)
}

/** A project with the script that draws, and whatever `files` has: name to content. */
export function project(files = {}) {
  const folder = temporary('project')
  for (const name of ['draw.mjs', 'picture.mjs'])
    copyFileSync(join(root, 'test', 'platforms', name), join(folder, name))
  const all = { 'package.json': '{ "name": "project", "private": true, "type": "module" }', ...files }
  for (const [name, content] of Object.entries(all)) writeFileSync(join(folder, name), content)
  return folder
}

/** A project in which the package is installed. */
export async function installedProject(tarball, files) {
  const folder = project(files)
  await run('npm', [...npmInstall, tarball], { cwd: folder })
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
  expect(got.ids === expected.ids, `tokens ${got.ids} instead of ${expected.ids}`)
}

/** Peak signal-to-noise ratio of 8-bit pixels, in decibels. */
export function psnr(a, b) {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2
  return sum === 0 ? Infinity : 10 * Math.log10((255 ** 2 * a.length) / sum)
}
