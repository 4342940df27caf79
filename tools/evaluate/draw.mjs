/**
 * Draws the evaluation prompts with this package (`npm run build` first).
 *
 *   node tools/evaluate/draw.mjs PROMPTS.json OUT_FOLDER [--model PATH] [--steps 20] [--guidance 3] [--only KIND]
 *        [--precision auto]
 *
 * Writes OUT_FOLDER/ID.png for each prompt, and OUT_FOLDER/sheet.png with all pictures, twenty in a row.
 */
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import sharp from 'sharp'
import { DiffusionPipeline } from '../../dist/index.js'

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    model: { type: 'string' },
    steps: { type: 'string', default: '20' },
    guidance: { type: 'string', default: '3' },
    only: { type: 'string' },
    precision: { type: 'string', default: 'auto' },
  },
})
const [list, out] = positionals
if (!list || !out) {
  console.error('Expected PROMPTS.json and OUT_FOLDER')
  process.exit(2)
}
const prompts = JSON.parse(readFileSync(list, 'utf8')).filter(
  ({ kind }) => !values.only || kind === values.only,
)
mkdirSync(out, { recursive: true })

const COLUMNS = 20
const pipe = await DiffusionPipeline.load(values.model, { precision: values.precision })
const side = pipe.model.imageSize
const tiles = []
for (const [i, { id, prompt, seed }] of prompts.entries()) {
  const options = { prompt, seed, steps: Number(values.steps), guidanceScale: Number(values.guidance) }
  const { images } = await pipe.generate(options)
  await images[0].toFile(join(out, `${id}.png`))
  tiles.push({
    input: Buffer.from(images[0].data),
    raw: { width: side, height: side, channels: 3 },
    left: (i % COLUMNS) * side,
    top: Math.floor(i / COLUMNS) * side,
  })
}
await pipe.dispose()
await sharp({
  create: {
    width: COLUMNS * side,
    height: Math.ceil(tiles.length / COLUMNS) * side,
    channels: 3,
    background: 'white',
  },
})
  .composite(tiles)
  .png()
  .toFile(join(out, 'sheet.png'))
console.log(`${prompts.length} pictures → ${out}`)
