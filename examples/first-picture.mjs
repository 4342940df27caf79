/** The shortest program: `node examples/first-picture.mjs`. */
import { DiffusionPipeline } from 'node-diffusion'

const pipe = await DiffusionPipeline.load()
const { images } = await pipe.generate({ prompt: 'a blue cat and a pizza', seed: 3 })
await images[0].toFile('out.png')
await pipe.dispose()
