// Draws a small picture with the package that is installed beside this file, and prints what another process needs in
// order to compare it. `node draw.mjs [PRECISION] [FILE]`; without a console (Wine), the result goes to FILE.
import { writeFileSync } from 'node:fs'
import { cpuInfo, DiffusionPipeline } from 'node-diffusion'

const [precision = 'auto', file] = process.argv.slice(2)
const began = performance.now()
const pipe = await DiffusionPipeline.load(undefined, { precision })
const { images } = await pipe.generate({ prompt: 'a blue cat and a pizza', seed: 3, steps: 4 })
const [{ width, height, data }] = images
const result = JSON.stringify({
  platform: `${process.platform}-${process.arch}`,
  kernel: cpuInfo().kernel,
  size: [width, height],
  pixels: Buffer.from(data).toString('base64'),
  seconds: (performance.now() - began) / 1000,
})
await pipe.dispose()
if (file) writeFileSync(file, result)
else console.log(result)
