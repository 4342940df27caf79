/**
 * Encodes an image as 256 integers and decodes it again: `node examples/vq-codes.mjs "a red apple"`.
 *
 * The bundled VQ-VAE represents 64×64 pixels by 16×16 codes of 10 bits: the nearest of 1,024 learned vectors.
 */
import sharp from 'sharp'
import { DiffusionPipeline, Image, imageToTensor, VqModel } from 'node-diffusion'

const pipe = await DiffusionPipeline.load()
const vq = await VqModel.load()
const { images } = await pipe.generate({ prompt: process.argv[2] ?? 'a red apple', seed: 1 })
const { indices } = await vq.encode(await imageToTensor(images[0]))
const [, h, w] = indices.shape
for (let y = 0; y < h; y++)
  console.log(Array.from(indices.data.subarray(y * w, (y + 1) * w), (code) => `${code}`.padStart(5)).join(''))

const restored = Image.fromTensor(await vq.decode(indices))
await sharp(await images[0].toBuffer('png'))
  .extend({ right: restored.width })
  .composite([{ input: await restored.toBuffer('png'), left: images[0].width, top: 0 }])
  .toFile('vq-codes.png')
console.log('vq-codes.png: the image, and the image decoded from 320 bytes of codes')
await Promise.all([pipe.dispose(), vq.dispose()])
