/** The platforms that the package has prebuilt addons for, and zig's compiler, which builds them all. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './build-addon.mjs'

/**
 * By name: the target as zig calls it, with the oldest system that it is for; CMake's names for it; and the file in
 * prebuilds/, named as prebuildify names it. `cuda`: NVIDIA has a driver for it. On Linux, one file serves glibc and musl
 * (scripts/without-loader.mjs).
 */
export const platforms = {
  'linux-x64': {
    target: 'x86_64-linux-gnu.2.28',
    system: ['Linux', 'x86_64'],
    file: 'linux-x64/node-diffusion.node',
    cuda: true,
  },
  'linux-arm64': {
    target: 'aarch64-linux-gnu.2.28',
    system: ['Linux', 'aarch64'],
    file: 'linux-arm64/node-diffusion.node',
    cuda: true,
  },
  'darwin-arm64': {
    target: 'aarch64-macos.11.0',
    system: ['Darwin', 'arm64'],
    file: 'darwin-arm64/node-diffusion.node',
  },
  'darwin-x64': {
    target: 'x86_64-macos.11.0',
    system: ['Darwin', 'x86_64'],
    file: 'darwin-x64/node-diffusion.node',
  },
  'win32-x64': {
    target: 'x86_64-windows-gnu',
    system: ['Windows', 'AMD64'],
    file: 'win32-x64/node-diffusion.node',
    cuda: true,
  },
  'win32-arm64': {
    target: 'aarch64-windows-gnu',
    system: ['Windows', 'ARM64'],
    file: 'win32-arm64/node-diffusion.node',
  },
}

/** The platform of this process. */
export const ownPlatform = `${process.platform}-${process.arch}`

/** The compiler, as pip names it. */
export const ziglang = 'ziglang==0.17.1'

/** zig's program: $ND_ZIG, or that of PyPI's `ziglang`, which is installed to build/zig where it is missing. */
export function findZig() {
  if (process.env.ND_ZIG) return process.env.ND_ZIG
  const folder = join(root, 'build', 'zig')
  const program = join(folder, 'ziglang', process.platform === 'win32' ? 'zig.exe' : 'zig')
  if (!existsSync(program)) {
    const args = ['-m', 'pip', 'install', '--quiet', '--root-user-action=ignore', '--target', folder, ziglang]
    const { status, error } = spawnSync('python3', args, { stdio: 'inherit' })
    if (error || status !== 0) throw new Error(`pip could not install ${ziglang}`)
  }
  return program
}

/** Writes a file if its content differs: what was built with it stays up to date otherwise. */
export function writeChanged(file, content, mode = 0o644) {
  if (existsSync(file) && readFileSync(file, 'utf8') === content) return
  writeFileSync(file, content, { mode })
}

/** The folder with the programs that cmake/toolchain-zig.cmake names, for one target. */
export function zigTools(zig, name) {
  const folder = join(root, 'build', 'prebuilds', name, 'tools')
  mkdirSync(folder, { recursive: true })
  const program = (command) => `#!/bin/sh\nexec '${zig}' ${command} "$@"\n`
  writeChanged(join(folder, 'c++'), program(`c++ -target ${platforms[name].target}`), 0o755)
  writeChanged(join(folder, 'ar'), program('ar'), 0o755)
  writeChanged(join(folder, 'ranlib'), program('ranlib'), 0o755)
  return folder
}
