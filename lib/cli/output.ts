/** Names of the output files, and checks that can fail before minutes of work. */
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { basename, dirname, extname, join } from 'node:path'
import { DiffusionError } from '../errors.js'
import { formatOf, type ImageFormat } from '../image/image.js'

const EXTENSION = { png: '.png', jpeg: '.jpg', webp: '.webp' } as const

export interface OutputPlan {
  /** '-': standard output. */
  folder: string
  /** The name that the user gave; undefined: files are named after the prompt and never replace another file. */
  name?: string
  format: ImageFormat
}

/**
 * Decides where images are written, and checks that the folder exists and is writable.
 *
 * @throws {RangeError} the file's extension is not that of an image format
 * @throws {DiffusionError} IO: the folder does not exist or is not writable
 */
export async function planOutput(output: string | undefined, format?: ImageFormat): Promise<OutputPlan> {
  if (output === '-') return { folder: '-', format: format ?? 'png' }
  const isFolder = output === undefined || /[/\\]$/.test(output) || (await isDirectory(output))
  const folder = isFolder ? (output ?? '.') : dirname(output)
  const plan = isFolder
    ? { folder, format: format ?? 'png' }
    : { folder, name: basename(output), format: format ?? formatOf(output) }
  await checkFolder(folder, output ?? 'here')
  return plan
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false
}

async function checkFolder(folder: string, output: string): Promise<void> {
  if (!(await isDirectory(folder))) {
    throw new DiffusionError('IO', `Cannot write ${output}: there is no folder ${folder}`)
  }
  try {
    await access(folder, constants.W_OK)
  } catch (cause) {
    throw new DiffusionError('IO', `Cannot write ${output}: no permission to write to the folder ${folder}`, {
      cause,
    })
  }
}

/** The path of image `index` of `count`. */
export async function outputPath(
  plan: OutputPlan,
  image: { prompt: string; seed: number | bigint; index: number; count: number },
): Promise<string> {
  if (plan.name !== undefined) {
    const extension = extname(plan.name)
    const stem = plan.name.slice(0, plan.name.length - extension.length)
    const name = image.count > 1 ? `${stem}-${image.index + 1}${extension}` : plan.name
    return join(plan.folder, name)
  }
  const stem = `${slug(image.prompt)}-${image.seed}`
  for (let attempt = 1; ; attempt++) {
    const path = join(plan.folder, `${stem}${attempt > 1 ? `-${attempt}` : ''}${EXTENSION[plan.format]}`)
    if (!(await stat(path).catch(() => undefined))) return path
  }
}

/** The first words of a prompt as a file name: letters and digits of any script, separated by hyphens. */
export function slug(prompt: string): string {
  const words = prompt
    .normalize('NFC')
    .toLowerCase()
    .split(/[^\p{L}\p{M}\p{N}]+/u)
    .filter(Boolean)
  let name = ''
  for (const word of words) {
    // File systems allow 255 bytes for a name.
    if (Buffer.byteLength(`${name}-${word}`) > 60) break
    name += (name && '-') + word
  }
  return name || 'image'
}
