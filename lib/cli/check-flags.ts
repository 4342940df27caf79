/** What can be checked of an image's options before the model is loaded. */
import { constants } from 'node:fs'
import { access } from 'node:fs/promises'
import { DiffusionError } from '../errors.js'
import { formatOf } from '../image/image.js'
import { printable, shorten } from '../quote.js'
import { closest } from '../spelling.js'
import type { Engine } from './engine.js'
import { countOf, type GenerateFlags } from './flags.js'
import { isElsewhere } from './hub.js'
import { checkFile, isStandardOutput } from './output.js'
import { previewPath } from './preview-file.js'
import { schedulerName, usualSpelling } from './scheduler-name.js'
import { UsageError, type Terminal } from './terminal.js'

/** Checks options that do not go together, or not without each other. */
export function checkFlags(flags: GenerateFlags, { stdout }: Terminal): void {
  if (isStandardOutput(flags.output)) {
    if (flags.json) throw new UsageError('--json and "-o -" both write to standard output')
    if (countOf(flags) > 1) throw new UsageError('"-o -" takes one image: use a file or a folder for several')
    if (stdout.isTTY)
      throw new UsageError('an image cannot be written to a terminal: send it to a file or a program')
  }
  if (flags.mask && !flags.init) throw new UsageError('--mask needs --init, the image to repaint')
  if (flags.strength !== undefined && !flags.init)
    throw new UsageError('--strength needs --init, the image to start from')
  if (flags.imageCfg !== undefined && !flags.init)
    throw new UsageError('--image-cfg needs --init, the image to edit')
  if (flags.noiseLevel !== undefined && !flags.init)
    throw new UsageError('--noise-level needs --init, the image to enlarge')
  if (flags.refinerStart !== undefined && flags.refiner === undefined)
    throw new UsageError('--refiner-start needs --refiner, the model that takes over')
  checkImagePrompts(flags)
  if (flags.decoder === 'tiny' && flags.tinyVae === undefined)
    throw new UsageError('--decoder tiny needs --tiny-vae, the autoencoder to decode with')
  if (flags.tinyVae !== undefined && flags.decoder !== 'tiny' && flags.preview === undefined)
    throw new UsageError('--tiny-vae needs --preview or --decoder tiny')
}

function checkImagePrompts({ imagePrompt: prompts, ipAdapter: adapters, imageEncoder }: GenerateFlags): void {
  if (prompts && !adapters)
    throw new UsageError('--image-prompt needs --ip-adapter, the file that it works by')
  if (adapters && !prompts) throw new UsageError('--ip-adapter needs --image-prompt, the image to draw from')
  if (imageEncoder !== undefined && !adapters)
    throw new UsageError('--image-encoder needs --ip-adapter, the file that it belongs to')
  if (prompts && adapters && adapters.length > 1 && adapters.length !== prompts.length)
    throw new UsageError(
      `expected one --ip-adapter for all or one for each of ${prompts.length} --image-prompt, found ${adapters.length}`,
    )
}

/** Checks names that can be checked without a model, so that a typo is reported before one is loaded. */
export async function checkNames(flags: GenerateFlags, engine: Engine): Promise<void> {
  const { scheduler, preview, preset } = flags
  if (preset !== undefined) {
    const known = (await engine.presets()).map(({ name }) => name)
    if (!known.includes(preset)) throw unknownName('preset', preset, closest(preset, known))
  }
  if (typeof preview === 'string') formatOf(preview)
  if (scheduler === undefined) return
  const names = await engine.schedulerNames()
  flags.scheduler = schedulerName(scheduler, names)
  if (flags.scheduler !== undefined) return
  throw unknownName('scheduler', scheduler, closest(usualSpelling(scheduler), names))
}

function unknownName(kind: 'preset' | 'scheduler', name: string, near: string | undefined): UsageError {
  const hint = near ? `did you mean ${near}?` : `see: node-diffusion ${kind}s`
  return new UsageError(`there is no ${kind} ${printable(shorten(name))}; ${hint}`)
}

/** Checks that the files that are named can be read. */
export async function checkFiles(flags: GenerateFlags, engine: Engine): Promise<void> {
  const {
    init,
    mask,
    depth,
    unet,
    vae,
    textEncoder = [],
    refiner,
    tinyVae,
    lora = [],
    embedding = [],
    ipAdapter = [],
    imageEncoder,
    imagePrompt = [],
    control = [],
    preview,
  } = flags
  for (const file of [
    init,
    mask,
    depth,
    ...[unet, vae, ...textEncoder],
    refiner,
    tinyVae,
    ...[...lora, ...embedding].map(({ path }) => path),
    ...[...ipAdapter, imageEncoder],
    ...imagePrompt.map(({ image }) => image),
    ...control.flatMap(({ net, image, mask }) => [net, image, mask]),
  ]) {
    if (file === undefined || (await isElsewhere(file, engine))) continue
    await access(file, constants.R_OK).catch((cause: unknown) => {
      const { code, message } = cause as NodeJS.ErrnoException
      const why = code === 'ENOENT' ? 'there is no such file' : message
      throw new DiffusionError('IO', printable(`Cannot read ${file}: ${why}`), { cause })
    })
  }
  if (preview !== undefined) await checkFile(previewPath(preview))
}
