/** The image library, loaded when the first image is read or written. */
import type sharp from 'sharp'
import { importOnce } from '../import-once.js'

const importSharp = importOnce<{ default: typeof sharp }>('sharp', () => import('sharp'))

/** @throws {DiffusionError} IO: it cannot be loaded now */
export async function loadSharp(): Promise<typeof sharp> {
  return (await importSharp()).default
}
