import { chooseTextOutputs } from './families/text-outputs.js'
import { unsupported } from './formats/fail.js'
import { openModel } from './index.js'
import { usualScalingFactor } from './single-file.js'
import type { ModelDescription } from './model-description.js'

/** Files or folders of components that take the place of a model's own. */
export interface PartPaths {
  /** Of the weights in diffusers folders, as in openModel(). */
  variant?: string
  unet?: string
  vae?: string
  textEncoders?: readonly string[]
}

/**
 * The model with components from other files. The model decides how they work together, so a text encoder gives the
 * outputs that the UNet was trained with.
 *
 * @param find gives the local path of each
 * @throws {DiffusionError} as openModel(); UNSUPPORTED_MODEL: a file has no such component
 */
export async function withParts(
  model: ModelDescription,
  paths: PartPaths,
  find: (path: string) => Promise<string>,
): Promise<ModelDescription> {
  const result: ModelDescription = { ...model, textEncoders: [...model.textEncoders] }
  const open = async (path: string) => openModel(await find(path), { variant: paths.variant })
  if (paths.unet !== undefined) {
    const { unet } = await open(paths.unet)
    if (!unet) throw unsupported(paths.unet, 'expected a UNet, found none')
    result.unet = unet
  }
  if (paths.vae !== undefined) {
    const opened = await open(paths.vae)
    if (!opened.vae && !opened.tinyVae) throw unsupported(paths.vae, 'expected an autoencoder, found none')
    // A file of an autoencoder alone does not say for which latents it was trained.
    const guessed = opened.format !== 'diffusers' && !opened.unet
    const scalingFactor = usualScalingFactor(result.unet?.config)
    // A tiny one can be the only one.
    if (!opened.vae) {
      delete result.vae
      result.tinyVae = opened.tinyVae
    } else result.vae = guessed ? { ...opened.vae, scalingFactor } : opened.vae
  }
  if (paths.textEncoders !== undefined) {
    result.textEncoders = []
    for (const path of paths.textEncoders) {
      const { textEncoders } = await open(path)
      if (textEncoders.length === 0) throw unsupported(path, 'expected a text encoder, found none')
      result.textEncoders.push(...textEncoders)
    }
  }
  chooseTextOutputs(result)
  return result
}
