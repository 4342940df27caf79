/** Helpers of the pipeline's tests. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import sharp from 'sharp'
import type { GenerateOptions, Image } from '../../lib/index.js'
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

/** The largest difference between an image and a PNG of the fixtures in levels of 0…255; Infinity for another size. */
export async function difference(image: Image, file: string): Promise<number> {
  const { data, info } = await sharp(join(fixtures, file))
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true })
  if (info.width !== image.width || info.height !== image.height) return Infinity
  return largestDifference(data, image.data)
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
