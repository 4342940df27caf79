/** Where the images go: names of the output files, and checks that can fail before minutes of work. */
import { constants } from 'node:fs'
import { access, lstat, stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { DiffusionError } from '../errors.js'
import { formatOf, type ImageFormat } from '../image/image.js'
import { writeNewFile, writeWholeFile } from '../image/write-file.js'
import { findDestination } from '../output-file.js'
import { printable } from '../quote.js'
import { writeError } from '../write-error.js'

const EXTENSION = { png: '.png', jpeg: '.jpg', webp: '.webp' } as const

/** Names of standard output. */
const STANDARD_OUTPUT = new Set(['-', '/dev/stdout', '/dev/fd/1'])

export interface OutputPlan {
  /** undefined: standard output. */
  folder?: string
  /** The name that the user gave; undefined: files are named after the prompt and never replace another file. */
  name?: string
  format: ImageFormat
}

export function isStandardOutput(output: string | undefined): boolean {
  return output !== undefined && STANDARD_OUTPUT.has(output)
}

/**
 * Decides where images are written, and checks that they can be.
 *
 * @param count number of images
 * @throws {RangeError} the file's extension is not that of an image format
 * @throws {DiffusionError} IO: the folder does not exist or is not writable, or a file of this name cannot be written
 */
export async function planOutput(
  output: string | undefined,
  format: ImageFormat | undefined,
  count: number,
): Promise<OutputPlan> {
  if (isStandardOutput(output)) return { format: format ?? 'png' }
  const isFolder = output === undefined || /[/\\]$/.test(output) || (await isDirectory(output))
  if (isFolder) {
    const folder = output ?? '.'
    await checkFolder(folder, output ?? 'here')
    return { folder, format: format ?? 'png' }
  }
  const [folder, name] = [dirname(output), basename(output)]
  // Pipes and devices may have any name.
  const special = await isSpecial(output)
  if (!special) await checkFolder(folder, output)
  // The last name is the longest one.
  await checkFile(join(folder, numbered(name, count - 1, count)))
  return { folder, name, format: format ?? (special ? 'png' : formatOf(output)) }
}

/**
 * Checks that a file can be written.
 *
 * @throws {DiffusionError} IO: it cannot
 */
export async function checkFile(path: string): Promise<void> {
  try {
    const { found } = await findDestination(path)
    if (!found) await access(dirname(path), constants.W_OK)
  } catch (error) {
    throw writeError(path, error)
  }
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false
}

async function isSpecial(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found !== undefined && !found.isFile()
}

async function checkFolder(folder: string, output: string): Promise<void> {
  const failure = (why: string, cause?: unknown) =>
    new DiffusionError('IO', printable(`Cannot write ${output}: ${why} ${folder}`), { cause })
  if (!(await isDirectory(folder))) throw failure('there is no folder')
  await access(folder, constants.W_OK).catch((cause: unknown) => {
    throw failure('no permission to write to the folder', cause)
  })
}

/**
 * Writes image `index` of `count`.
 *
 * @returns the path
 */
export async function writeImage(
  { folder = '.', name, format }: OutputPlan,
  bytes: Uint8Array,
  image: { prompt: string; seed: number | bigint; index: number; count: number },
  signal: AbortSignal,
): Promise<string> {
  if (name !== undefined) {
    const path = join(folder, numbered(name, image.index, image.count))
    await writeWholeFile(path, bytes, signal)
    return path
  }
  const stem = `${slug(image.prompt)}-${image.seed}`
  for (let attempt = 1; ; attempt++) {
    const path = join(folder, `${stem}${attempt > 1 ? `-${attempt}` : ''}${EXTENSION[format]}`)
    if (await lstat(path).catch(() => undefined)) continue
    // Another program may take the same name at this moment.
    if (await writeNewFile(path, bytes, signal)) return path
  }
}

/** The name itself, or that of one of several images: `out-1.png`. */
function numbered(name: string, index: number, count: number): string {
  if (count === 1) return name
  const extension = extname(name)
  return `${name.slice(0, name.length - extension.length)}-${index + 1}${extension}`
}

/** File systems allow 255 bytes for a name. */
const MAX_SLUG_BYTES = 60

/** The first words of a prompt as a file name: letters and digits of any script, separated by hyphens. */
export function slug(prompt: string): string {
  const words = prompt
    .normalize('NFC')
    .toLowerCase()
    .split(/[^\p{L}\p{M}\p{N}]+/u)
    .filter(Boolean)
  let name = ''
  for (const word of words) {
    if (Buffer.byteLength(`${name}-${word}`) > MAX_SLUG_BYTES) break
    name += (name && '-') + word
  }
  return name || beginning(words[0] ?? '') || 'image'
}

/** As much of a word as fits. Some scripts write whole sentences without spaces. */
function beginning(word: string): string {
  let result = ''
  for (const { segment } of new Intl.Segmenter().segment(word)) {
    if (Buffer.byteLength(result + segment) > MAX_SLUG_BYTES) break
    result += segment
  }
  return result
}
