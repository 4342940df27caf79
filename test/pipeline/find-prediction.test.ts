/** Stable Diffusion 2 in a file that does not say what the UNet predicts: its output does. */
import t, { type Test } from 'tap'
import { DiffusionPipeline, openModel, quantizeModel, type LoadOptions } from '../../lib/index.js'
import {
  TINY_UNET,
  TINY_VAE,
  originalUnetName,
  tensorsOf,
  unetShapes,
  vaeShapes,
} from '../model-files/models.js'
import { freshPath, safetensorsBytes, safetensorsHeader, writeSparse } from '../model-files/helpers.js'

const unet = { ...TINY_UNET, blockChannels: [64, 128], contextWidth: 1024, heads: [1, 2] }
const config = {
  ...unet,
  layersPerBlock: [1, 1],
  downTransformerDepth: [1, 0],
  upTransformerDepth: [1, 0],
}

/** A model of zeros, whose UNet gives `output` everywhere. */
function model(t: Test, output: number, metadata: Record<string, string> = {}): string {
  const { header, dataBytes } = safetensorsHeader(
    {
      'model.diffusion_model.out.2.bias': { shape: [4], type: 'F32' },
      ...tensorsOf(
        unetShapes(config),
        (name) => `model.diffusion_model.${originalUnetName(name, config)}`,
        'F32',
      ),
      ...tensorsOf(vaeShapes(TINY_VAE), (name) => `vae.${name}`, 'F32'),
    },
    metadata,
  )
  const bias = Buffer.from(new Float32Array(4).fill(output).buffer)
  return writeSparse(
    freshPath(t, '.safetensors'),
    Buffer.concat([safetensorsBytes(header), bias]),
    dataBytes - 16,
  )
}

async function loaded(path: string, options?: LoadOptions) {
  await using pipe = await DiffusionPipeline.load(path, { device: 'cpu', ...options })
  const { schedule, imageSize, warnings } = pipe.model
  return { prediction: schedule.predictionType, imageSize: imageSize / 4, warnings: warnings.join() }
}

t.test('the output of the UNet decides', async (t) => {
  // The input is 0.5, and output minus input is compared with −1.
  for (const [output, prediction, imageSize] of [
    [0, 'epsilon', 64],
    [-0.45, 'epsilon', 64],
    [-0.55, 'v_prediction', 96],
    [-3, 'v_prediction', 96],
    [NaN, 'v_prediction', 96],
  ] as const) {
    const path = model(t, output)
    t.match((await openModel(path)).assumedPrediction, { imageSizes: {} }, 'the file leaves it open')
    const found = await loaded(path)
    t.match(found, { prediction, imageSize }, `output ${output}`)
    t.match(
      found.warnings,
      new RegExp(`does not say what the UNet predicts: .*\\(${prediction}\\).*predictionType`),
    )
  }
})

t.test('what a file or a caller says comes first', async (t) => {
  const told = model(t, -3, { 'modelspec.prediction_type': 'epsilon' })
  t.equal((await openModel(told)).assumedPrediction, undefined)
  t.match(await loaded(told), { prediction: 'epsilon', imageSize: 64, warnings: '' })
  const silent = model(t, -3)
  t.match(await loaded(silent, { predictionType: 'epsilon' }), {
    prediction: 'epsilon',
    imageSize: 64,
    warnings: '',
  })
  t.match(await loaded(silent, { predictionType: 'v_prediction' }), { imageSize: 96, warnings: '' })
  t.match(await loaded(silent, { predictionType: 'sample' }), { prediction: 'sample', imageSize: 96 })
  const sized = model(t, 0, { 'modelspec.resolution': '640x640' })
  t.match(await loaded(sized), { prediction: 'epsilon', imageSize: 160 }, 'the size in the file stays')
})

t.test('a quantized copy leaves it open, too', async (t) => {
  const output = freshPath(t, '.gguf')
  await quantizeModel(model(t, -0.2), output, { type: 'q8_0' })
  t.match((await openModel(output)).assumedPrediction, { imageSizes: { epsilon: 256, v_prediction: 384 } })
  t.match(await loaded(output), { prediction: 'epsilon', imageSize: 64 })
})
