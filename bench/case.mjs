/**
 * Runs one case in this process and prints its figures as one line of JSON. usage: case.mjs NAME OPTIONS_AS_JSON
 * run.mjs starts it; run it alone to profile a case.
 */
import { native } from '../dist/native.js'
import { cases } from './cases/index.mjs'
import { peakRss } from './process.mjs'

const [name, json] = process.argv.slice(2)
const options = { precision: 'auto', size: 512, batch: 1, repeat: 3, ...JSON.parse(json ?? '{}') }
let figures
try {
  if (options.threads) native().setThreads(options.threads)
  figures = await cases[name].run(options)
} catch (error) {
  process.exitCode = 1
  figures = { error: `${error.name}: ${error.message}`.split('\n')[0] }
}
const { kernel, threads } = native().cpu()
process.stdout.write(`${JSON.stringify({ case: name, ...figures, peakRss: peakRss(), kernel, threads })}\n`)
