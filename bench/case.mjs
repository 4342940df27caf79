/**
 * One case in this process; prints one JSON line. usage: case.mjs NAME OPTIONS_AS_JSON
 * Run by run.mjs; alone it serves to profile a case.
 */
import { native } from '../dist/native.js'
import { cases } from './cases.mjs'
import { peakRss } from './process.mjs'

const [name, json] = process.argv.slice(2)
const options = { model: undefined, size: 512, batch: 1, repeat: 3, ...JSON.parse(json ?? '{}') }
if (options.threads) native().setThreads(options.threads)
const result = await cases[name].run(options)
const { kernel, threads } = native().cpu()
process.stdout.write(`${JSON.stringify({ case: name, ...result, peakRss: peakRss(), kernel, threads })}\n`)
