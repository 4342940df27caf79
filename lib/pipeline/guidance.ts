import { checkNumber, checkTensor } from '../check.js'
import { RemoteTensor } from '../remote-tensor.js'
import type { Tensor } from '../types.js'
import { rows, zeros } from './tensors.js'

/**
 * Classifier-free guidance (Ho & Salimans 2022): unconditional + scale · (conditional − unconditional). `prediction`
 * holds both as one batch [2n, c, h, w], the unconditional half first; the result is [n, c, h, w].
 *
 * `rescale` φ, 0…1, moves the standard deviation of the result towards that of the conditional prediction, which
 * counteracts overexposure (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed", eq.
 * 14–16).
 *
 * @throws {TypeError} a wrong type
 * @throws {RangeError} a prediction that is not such a batch, or a number out of bounds
 */
export function guide(prediction: Tensor, scale: number, rescale = 0): Tensor {
  prediction = checkTensor(prediction, 'prediction', [-1, -1, -1, -1])
  if (prediction.shape[0] % 2 !== 0) {
    throw new RangeError(
      `Expected two rows for each image for prediction but received [${prediction.shape.join(', ')}]`,
    )
  }
  checkNumber(scale, 'scale', -Number.MAX_VALUE, Number.MAX_VALUE)
  checkNumber(rescale, 'rescale', 0, 1)
  if (prediction instanceof RemoteTensor) return prediction.guide(scale, rescale)
  const n = prediction.shape[0] / 2
  const unconditional = rows(prediction, 0, n)
  const conditional = rows(prediction, n, 2 * n)
  const guided = zeros(conditional.shape)
  for (let i = 0; i < guided.data.length; i++) {
    const u = unconditional.data[i]
    guided.data[i] = u + scale * (conditional.data[i] - u)
  }
  rescaleTowards(conditional, guided, rescale)
  return guided
}

/** Moves the standard deviation of each row of `guided` towards that of `conditional`. */
function rescaleTowards(conditional: Tensor, guided: Tensor, rescale: number): void {
  if (rescale === 0) return
  for (let i = 0; i < guided.shape[0]; i++) {
    const row = rows(guided, i).data
    const ratio = deviation(rows(conditional, i).data) / deviation(row)
    const factor = Number.isFinite(ratio) ? rescale * ratio + 1 - rescale : 1
    for (let j = 0; j < row.length; j++) row[j] *= factor
  }
}

/**
 * Guidance by a prompt and an image (Brooks et al. 2023, "InstructPix2Pix", eq. 3). `prediction` holds three rows for
 * each image as one batch: with both, with the image alone, and with neither. `rescale` as of guide().
 */
export function guideEdit(prediction: Tensor, scale: number, imageScale: number, rescale = 0): Tensor {
  if (prediction instanceof RemoteTensor) return prediction.guideEdit(scale, imageScale, rescale)
  const n = prediction.shape[0] / 3
  const [both, image, neither] = [0, 1, 2].map((i) => rows(prediction, i * n, (i + 1) * n))
  const guided = zeros(both.shape)
  for (let i = 0; i < guided.data.length; i++) {
    const [b, m, u] = [both.data[i], image.data[i], neither.data[i]]
    guided.data[i] = u + scale * (b - m) + imageScale * (m - u)
  }
  rescaleTowards(both, guided, rescale)
  return guided
}

/** Sample standard deviation (n − 1), as torch.std(). */
function deviation(values: Float32Array): number {
  let mean = 0
  for (const x of values) mean += x
  mean /= values.length
  let sum = 0
  for (const x of values) sum += (x - mean) ** 2
  return Math.sqrt(sum / (values.length - 1))
}
