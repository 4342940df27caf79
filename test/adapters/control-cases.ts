/** Pictures of diffusers with what stands in the place of a ControlNet, for Stable Diffusion 1 and XL. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import {
  DiffusionPipeline,
  type ControlOptions,
  type GenerateOptions,
  type LoadOptions,
} from '../../lib/index.js'
import { packageRoot } from '../../lib/package-root.js'
import { equalImages } from '../pipeline/support.js'
import { base, fixtures as pictures } from './control-models.js'

type Family = 'sd1' | 'sdxl'

interface Case {
  name: string
  family: Family
  options: GenerateOptions & { controls: ControlOptions[] }
  files: string[]
}

/** The cases of test/fixtures/`folder`, which has cases.json and a safetensors file for each family. */
export function controlCases(folder: string) {
  const fixtures = join(packageRoot(), 'test', 'fixtures', folder)
  const { cases } = JSON.parse(readFileSync(join(fixtures, 'cases.json'), 'utf8')) as { cases: Case[] }
  const fileOf = (family: Family) => join(fixtures, `${family}.safetensors`)

  const load = (family: Family, options: LoadOptions = {}) =>
    DiffusionPipeline.load(base[family], { precision: 'f32', controlNets: [fileOf(family)], ...options })

  function optionsOf({ options }: Case): Case['options'] {
    const controls = options.controls.map((one) => ({ ...one, image: join(pictures, one.image as string) }))
    return { ...options, controls, weighting: false }
  }

  const named = (family: Family, name: string) =>
    cases.find((one) => one.family === family && one.name === name)!

  function testPictures(): void {
    for (const family of ['sd1', 'sdxl'] as const) {
      void t.test(`pictures equal those of diffusers: ${family}`, async (t) => {
        await using pipe = await load(family)
        for (const one of cases.filter((one) => one.family === family)) {
          const { images, warnings } = await pipe.generate(optionsOf(one))
          await equalImages(t, images, one, fixtures)
          t.strictSame(
            warnings.filter((text) => !text.includes('far from')),
            [],
            one.name,
          )
        }
      })
    }
  }

  return { fixtures, fileOf, load, optionsOf, named, testPictures }
}
