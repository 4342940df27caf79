/** Helpers of the pipeline's tests. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import type { Test } from 'tap'
import type { DiffusionPipeline, GenerateOptions, Image } from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'

export const fixtures = join(packageRoot(), 'test', 'fixtures', 'pipeline')

export interface Case {
  name: string
  options: GenerateOptions
  files: string[]
}

/** The cases of tools/fixtures/pipeline.py, with absolute paths of images. */
export function cases(): Case[] {
  const { cases: list } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }
  for (const { options } of list) {
    if (options.image) options.image = join(fixtures, options.image as string)
    if (options.mask) options.mask = join(fixtures, options.mask as string)
  }
  return list
}

/** The largest difference between an image and a PNG in levels of 0…255; Infinity for another size. */
async function difference(image: Image, file: string): Promise<number> {
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true })
  if (info.width !== image.width || info.height !== image.height) return Infinity
  return largestDifference(data, image.data)
}

/** The images of a run equal those of diffusers: each is within 2 of 255 levels of its PNG. */
export async function equalImages(
  t: Test,
  images: readonly Image[],
  { name, files }: Pick<Case, 'name' | 'files'>,
  folder = fixtures,
): Promise<void> {
  t.equal(images.length, files.length, `${name}: number of images`)
  for (const [i, file] of files.entries()) {
    const worst = await difference(images[i], join(folder, file))
    t.ok(worst <= 2, `${file}: differs by at most 2 of 255 levels (${worst})`)
  }
}

/** A run that is aborted in its first step rejects with the reason, and the next run gives diffusers' images. */
export async function endsWhenAborted(
  t: Test,
  pipe: DiffusionPipeline,
  options: GenerateOptions,
  one: Pick<Case, 'name' | 'files'>,
  folder: string,
): Promise<void> {
  const controller = new AbortController()
  const onStep = () => controller.abort(new Error('enough'))
  await t.rejects(pipe.generate({ ...options, signal: controller.signal, onStep }), { message: 'enough' })
  const { images } = await pipe.generate(options)
  await equalImages(t, images, one, folder)
}

/** Peak signal-to-noise ratio of an image and a PNG of the fixtures in dB; −Infinity for another size. */
export async function psnr(image: Image, file: string): Promise<number> {
  const { data, info } = await sharp(join(fixtures, file))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  if (info.width !== image.width || info.height !== image.height) return -Infinity
  let squares = 0
  for (let i = 0; i < data.length; i++) squares += (data[i] - image.data[i]) ** 2
  return 10 * Math.log10((255 * 255 * data.length) / squares)
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Infinity
  let largest = 0
  for (let i = 0; i < a.length; i++) {
    const d = Math.abs(a[i] - b[i])
    if (!(d <= largest)) largest = Number.isNaN(d) ? Infinity : d
  }
  return largest
}

/** Options of a run that takes a fraction of a second. */
export const quick: GenerateOptions = { prompt: 'noto pizza', steps: 2, guidanceScale: 3, seed: 1 }
