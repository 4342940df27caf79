/**
 * `npm run sheet`: docs/sheet.png, the strip at the top of the README, drawn by the package itself (`npm run build`
 * first). Arguments are prompts to try in place of the chosen ones: `npm run sheet -- "noto cat face" "flat fire"`.
 */
import { join } from 'node:path'
import sharp from 'sharp'
import { DiffusionPipeline } from '../dist/index.js'
import { root } from './build-addon.mjs'

const chosen = [
  'noto pizza',
  'flat rocket',
  'noto red heart',
  'flat hamburger',
  'noto crab',
  'flat blue heart',
]
const prompts = process.argv.length > 2 ? process.argv.slice(2) : chosen
const ENLARGED = 2
const GAP = 8

const pipe = await DiffusionPipeline.load()
const side = pipe.model.imageSize * ENLARGED
const tiles = []
for (const [i, prompt] of prompts.entries()) {
  const { images } = await pipe.generate({ prompt, seed: 1 })
  const { data, width, height } = images[0]
  const input = await sharp(data, { raw: { width, height, channels: 3 } })
    .resize(side, side, { kernel: 'nearest' })
    .png()
    .toBuffer()
  tiles.push({ input, left: GAP + i * (side + GAP), top: GAP })
}
await pipe.dispose()

const file = join(root, 'docs', 'sheet.png')
const { size } = await sharp({
  create: {
    width: GAP + prompts.length * (side + GAP),
    height: side + 2 * GAP,
    channels: 3,
    background: 'white',
  },
})
  .composite(tiles)
  .png({ compressionLevel: 9, effort: 10 })
  .toFile(file)
console.log(`${file}: ${prompts.join(', ')}; ${(size / 1000).toFixed(1)} KB`)
