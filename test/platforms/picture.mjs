// What every host has to do with the package: draw a small picture, and read CLIP's vocabulary.
import { cpuInfo, DiffusionPipeline, Tokenizer } from 'node-diffusion'

/** What another process needs in order to compare it. With DRAW_PNG=1 `sharp` has to work, too. */
export async function picture(precision = 'auto') {
  const began = performance.now()
  const pipe = await DiffusionPipeline.load(undefined, { precision })
  const { images } = await pipe.generate({ prompt: 'a blue cat and a pizza', seed: 3, steps: 4 })
  const seconds = (performance.now() - began) / 1000
  await pipe.dispose()
  const [{ width, height, data }] = images
  const tokenizer = await Tokenizer.create(null)
  return {
    platform: `${process.platform}-${process.arch}`,
    kernel: cpuInfo().kernel,
    size: [width, height],
    pixels: Buffer.from(data).toString('base64'),
    ids: tokenizer.ids('a photo of a cat').join(),
    png: process.env.DRAW_PNG ? (await images[0].toBuffer('png')).length : undefined,
    seconds,
  }
}
