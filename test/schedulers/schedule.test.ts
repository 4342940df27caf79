import t from 'tap'
import { betaQuantile } from '../../lib/schedulers/beta-distribution.js'
import { roundHalfEven, spacedIntervals, spacedTimesteps } from '../../lib/schedulers/sigmas.js'
import { trainingSchedule } from '../../lib/schedulers/index.js'
import { readBetaQuantiles, scheduleNamed } from './fixtures.js'

t.test('quantiles of the beta distribution are those of scipy', (t) => {
  for (const [a, b, p, want] of readBetaQuantiles()) {
    const got = betaQuantile(p, a, b)
    const error = Math.abs(got - want) / Math.max(Math.abs(want), 1e-300)
    t.ok(error <= 1e-12 || Math.abs(got - want) <= 1e-15, `I⁻¹(${p}; ${a}, ${b}) = ${want}, got ${got}`)
  }
  t.end()
})

t.test('halves are rounded to the even integer', (t) => {
  t.strictSame([0.5, 1.5, 2.5, 2.4, 2.6, 499.5].map(roundHalfEven), [0, 2, 2, 2, 3, 500])
  t.end()
})

t.test('timestep spacings of the paper', (t) => {
  const request = { steps: 10, trainTimesteps: 1000, stepsOffset: 1 }
  t.strictSame(
    spacedTimesteps({ ...request, spacing: 'leading' }),
    [901, 801, 701, 601, 501, 401, 301, 201, 101, 1],
  )
  t.strictSame(
    spacedTimesteps({ ...request, spacing: 'trailing' }),
    [999, 899, 799, 699, 599, 499, 399, 299, 199, 99],
  )
  t.strictSame(
    spacedTimesteps({ ...request, spacing: 'linspace' }),
    [999, 888, 777, 666, 555, 444, 333, 222, 111, 0],
  )
  t.end()
})

t.test('every number of steps gives as many timesteps of the training schedule', (t) => {
  const wrong: unknown[] = []
  for (const spacing of ['leading', 'trailing', 'linspace'] as const) {
    for (let steps = 1; steps <= 1000; steps++) {
      const request = { spacing, steps, trainTimesteps: 1000, stepsOffset: 1 }
      for (const list of [spacedTimesteps(request), spacedIntervals(request)]) {
        const falling = list.every((timestep, i) => i === 0 || timestep <= list[i - 1])
        const within = list.every((timestep) => timestep >= 0 && timestep <= 999)
        if (list.length !== steps || !falling || !within) wrong.push({ spacing, steps, list })
      }
    }
  }
  t.strictSame(wrong, [])
  t.end()
})

t.test('the training schedule', (t) => {
  const sd = trainingSchedule(scheduleNamed('sd'))
  t.ok(Math.abs(sd.betas[0] / 0.00085 - 1) < 1e-6 && Math.abs(sd.betas[999] / 0.012 - 1) < 1e-6, 'the bounds')
  t.ok(Math.abs(sd.sigmas[999] - 14.6146) < 1e-4, 'highest level of Stable Diffusion')
  t.ok(Math.abs(sd.sigmas[0] - 0.0292) < 1e-4, 'lowest level of Stable Diffusion')
  t.ok(Math.abs(sd.snr(999) - 1 / sd.sigmas[999] ** 2) < 1e-8, 'signal-to-noise ratio')

  const rescaled = trainingSchedule(scheduleNamed('zsnr'))
  t.equal(rescaled.alphasCumprod[999], 0, 'no signal at the end')
  t.ok(Math.abs(rescaled.alphasCumprod[0] - sd.alphasCumprod[0]) < 1e-6, 'the first timestep does not change')
  t.equal(
    trainingSchedule(scheduleNamed('zsnr'), { finite: true }).sigmas[999] > 4000,
    true,
    'finite if required',
  )

  t.equal(trainingSchedule(scheduleNamed('trained')).timesteps, 200, 'trained betas')
  t.end()
})
