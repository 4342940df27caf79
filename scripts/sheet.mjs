/**
 * `npm run sheet`: the README's pictures, drawn by the package itself with the bundled model (`npm run build` first):
 * docs/first.png, what the first command draws, and docs/sheet.png, what the model can be asked for. Arguments are prompts
 * to try in place of the chosen ones: `npm run sheet -- "noto fox" "two flat apples"` writes sheet.png in this folder.
 */
import { join } from 'node:path'
import sharp from 'sharp'
import { DiffusionPipeline } from '../dist/index.js'
import { root } from './build-addon.mjs'

const FIRST = 'a blue cat and a pizza'
const FIRST_SEED = 3 // the README's command
const SEED = 1
const ROWS = [
  ['flat fox', 'noto fox', 'flat pizza', 'noto pizza', 'flat rocket', 'noto rocket', 'flat castle', 'noto castle'],
  ['noto owl', 'flat strawberry', 'noto guitar', 'flat ghost', 'noto cactus', 'flat penguin', 'noto crown', 'flat robot'],
  ['a red apple', 'a blue apple', 'a green cat', 'a purple cat', 'a pink car', 'a yellow car', 'a blue heart', 'a green heart'],
  ['a cat on a yellow background', 'a star on a black background', 'a fish on a blue background', 'small flat tree',
    'two apples', 'three noto stars', 'four flat cookies', 'two green apples'],
  ['a cat and a pizza', 'a dog left of a tree', 'a sun above a house', 'a key right of a heart', 'a lion below a cloud',
    'a red car and a star', 'a frog next to a mushroom', FIRST],
] // prettier-ignore
const GAP = 8

/** Pictures in rows, each `scale` times its size. */
async function montage(rows, scale, file) {
  const side = rows[0][0].width * scale
  const at = (i) => GAP + i * (side + GAP)
  const tiles = []
  for (const [y, row] of rows.entries()) {
    for (const [x, { data, width, height }] of row.entries()) {
      const input = await sharp(data, { raw: { width, height, channels: 3 } })
        .resize(side, side, { kernel: 'lanczos3' })
        .png()
        .toBuffer()
      tiles.push({ input, left: at(x), top: at(y) })
    }
  }
  const columns = Math.max(...rows.map((row) => row.length))
  const { size } = await sharp({
    create: { width: at(columns), height: at(rows.length), channels: 3, background: 'white' },
  })
    .composite(tiles)
    .png({ compressionLevel: 9, effort: 10, palette: true, quality: 95 })
    .toFile(file)
  console.log(`${file}: ${(size / 1000).toFixed(1)} KB`)
}

const pipe = await DiffusionPipeline.load()
const draw = async (prompt, seed = SEED) => (await pipe.generate({ prompt, seed })).images[0]
const drawAll = async (rows) => {
  const pictures = []
  for (const row of rows) {
    pictures.push([])
    for (const prompt of row) pictures.at(-1).push(await draw(prompt))
  }
  return pictures
}
const asked = process.argv.slice(2)
if (asked.length > 0) {
  await montage(await drawAll([asked]), 2, 'sheet.png')
} else {
  await montage([[await draw(FIRST, FIRST_SEED)]], 4, join(root, 'docs', 'first.png'))
  await montage(await drawAll(ROWS), 1, join(root, 'docs', 'sheet.png'))
}
await pipe.dispose()
