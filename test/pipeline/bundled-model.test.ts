/** The bundled model: its images, its warnings about unknown words, and the bundled VQ-VAE. */
import { readFileSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import sharp, { type Sharp } from 'sharp'
import t from 'tap'
import {
  DiffusionPipeline,
  type Image,
  imageToTensor,
  bundledModelPath,
  VqModel,
  bundledVqModelPath,
} from '../../lib/index.js'
import { hashDistance, perceptualHash } from './perceptual-hash.js'
import { cases, fixtures, quick } from './support.js'

const pipe = await DiffusionPipeline.load()
t.teardown(() => pipe.dispose())

const hashOf = async (image: Sharp) =>
  perceptualHash(await image.removeAlpha().resize(32, 32).greyscale().raw().toBuffer())
const drawn = ({ data, width, height }: Image) => sharp(data, { raw: { width, height, channels: 3 } })

t.test('a fixed prompt and seed give the stored image', async (t) => {
  const options = { prompt: 'a blue cat and a pizza', steps: 20, seed: 7 }
  const stored = await hashOf(sharp(join(fixtures, 'box.png')))
  const { images, warnings } = await pipe.generate(options)
  const distance = hashDistance(await hashOf(drawn(images[0])), stored)
  t.ok(distance <= 6, `${distance} of 64 bits differ`)
  t.same(warnings, [])
  const other = await pipe.generate({ ...options, prompt: 'noto rocket' })
  const apart = hashDistance(await hashOf(drawn(other.images[0])), stored)
  t.ok(apart >= 16, `another prompt is ${apart} bits away`)
})

t.test('warnings name unknown words', async (t) => {
  const draw = async (prompt: string) => (await pipe.generate({ ...quick, prompt })).warnings.join()
  t.equal(await draw('A Noto (pizza:1.3) on a Yellow background'), '')
  t.match(
    await draw('flat pizzza, xylophones 3 🦖'),
    /not trained on "pizzza" \(pizza\?\), "xylophones" \(saxophones\?\), "3", "🦖"/,
  )
  t.match((await pipe.generate({ ...quick, negativePrompt: 'blurry' })).warnings.join(), /"blurry"/)
  t.ok(pipe.model.trainedWords!.length > 500)
})

t.test('the model was trained on every word of the subjects in its card', async (t) => {
  const knowledge = JSON.parse(readFileSync(join(bundledModelPath(), 'knowledge.json'), 'utf8')) as {
    words: string[]
    subjects: { names: string[]; keywords: string[] }[]
  }
  t.ok(knowledge.subjects.length >= 250, `${knowledge.subjects.length} subjects`)
  const known = new Set(knowledge.words)
  const names = knowledge.subjects.flatMap(({ names, keywords }) => [...names, ...keywords])
  t.same(
    names.filter((name) => !name.match(/[a-z]+/g)!.every((word) => known.has(word))),
    [],
  )
})

t.test('both models are small', async (t) => {
  const size = async (folder: string) => {
    const entries = await readdir(folder, { recursive: true, withFileTypes: true })
    return entries
      .filter((entry) => entry.isFile())
      .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0)
  }
  const bytes = (await size(bundledModelPath())) + (await size(bundledVqModelPath()))
  t.ok(bytes <= 24e6, `${bytes} bytes`)
})

t.test('the bundled VQ-VAE', async (t) => {
  await using vq = await VqModel.load()
  t.same(vq.codebook, { size: 1024, width: 4 })
  const files = cases()
    .filter(({ name }) => name.startsWith('text-'))
    .flatMap((c) => c.files)
  t.ok(files.length >= 8)
  const used = new Set<number>()
  let squares = 0
  let count = 0
  for (const file of files) {
    const image = await imageToTensor(join(fixtures, file))
    const { indices } = await vq.encode(image)
    t.same(indices.shape, [1, 16, 16])
    indices.data.forEach((code) => used.add(code))
    const restored = await vq.decode(indices)
    for (let i = 0; i < restored.data.length; i++) squares += ((restored.data[i] - image.data[i]) / 2) ** 2
    count += restored.data.length
  }
  const decibels = -10 * Math.log10(squares / count)
  t.ok(decibels >= 20, `${decibels} dB for generated images`)
  t.ok(used.size >= 50, `${used.size} codes are in use`)
})
