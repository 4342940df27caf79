/** A replacement for the library that records calls and generates grey squares. */
import { PassThrough, Readable } from 'node:stream'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Test } from 'tap'
import { run } from '../../lib/cli/run.js'
import type { Engine } from '../../lib/cli/engine.js'
import type { LoadOptions, GenerateOptions } from '../../lib/options/index.js'
import type { EstimateOptions } from '../../lib/pipeline/diffusion-pipeline.js'
import type { MergeOptions, QuantizeOptions, QuantizeReport } from '../../lib/quantize/index.js'
import { Image } from '../../lib/image/image.js'
import type { ModelDescription } from '../../lib/models/model-description.js'

const root = process.cwd()

/** Output files are relative to the working directory, so each test has its own. */
export const inFolder = (t: Test): string => {
  const dir = t.testdir()
  const before = process.cwd()
  process.chdir(dir)
  t.teardown(() => process.chdir(before))
  return dir
}

export interface Calls {
  load: [string | undefined, LoadOptions][]
  estimate: [path: string, load: LoadOptions, run: EstimateOptions][]
  generate: GenerateOptions[]
  quantize: [string, string, QuantizeOptions][]
  merge: [string, string, MergeOptions][]
  pull: [reference: string, variant: string | undefined][]
  disposed: number
}

export interface FakeOptions {
  steps?: number
  stepMs?: number
  warnings?: string[]
  fail?: Error
  failLoad?: Error
  schedulers?: string[]
}

export const description = {
  path: 'model',
  format: 'gguf',
  architecture: 'Stable Diffusion 1.x',
  imageSize: 512,
  textEncoders: [],
  schedule: { trainTimesteps: 1000, predictionType: 'v_prediction' },
  unet: {
    config: { inChannels: 4 },
    source: {
      files: ['model'],
      tensors: [
        { name: 'a', type: 'q8_0', shape: [2000, 1000], file: 0, offset: 0, bytes: 2_125_000 },
        { name: 'b', type: 'f32', shape: [1000], file: 0, offset: 0, bytes: 4000 },
      ],
    },
  },
} as unknown as ModelDescription

const report = (output: string): QuantizeReport => ({
  output,
  type: 'q4_k',
  parameters: 2e6,
  bytesBefore: 8e6,
  bytesAfter: 2e6,
  fileBytes: 2_001_000,
  error: 0.071,
  groups: [
    {
      name: 'unet mid attention',
      parameters: 2e6,
      bytesBefore: 8e6,
      bytesAfter: 2e6,
      error: 0.071,
      types: [
        { type: 'q4_k', tensors: 7 },
        { type: 'q5_0', tensors: 2 },
      ],
    },
  ],
  fallbacks: [{ wanted: 'q4_k', type: 'q5_0', block: 256, tensors: ['unet.a.weight', 'unet.b.weight'] }],
  unusedRules: ['*nothing*=f16'],
})

export function fakeEngine(options: FakeOptions = {}): { engine: Engine; calls: Calls } {
  const calls: Calls = {
    load: [],
    estimate: [],
    generate: [],
    quantize: [],
    merge: [],
    pull: [],
    disposed: 0,
  }
  const engine: Engine = {
    async load(path, loadOptions) {
      calls.load.push([path, loadOptions])
      if (options.failLoad) throw options.failLoad
      return {
        model: { factor: 8 },
        device: 'cpu',
        memoryNeeded: () => ({ weights: 1024 ** 3, working: 512 * 1024 ** 2, total: 1.5 * 1024 ** 3 }),
        dispose: async () => void calls.disposed++,
        generate: async (request) => {
          if (process.cwd() === root) throw new Error('This test would write to the checkout: use inFolder()')
          calls.generate.push(request)
          if (options.fail) throw options.fail
          const steps = options.steps ?? 3
          for (let step = 1; step <= steps; step++) {
            if (options.stepMs) await sleep(options.stepMs)
            request.signal?.throwIfAborted()
            const preview = new Image(4, 4, new Uint8Array(48).fill(step))
            const latents = { data: new Float32Array(), shape: [0] }
            await request.onStep?.({ step, steps, timestep: 0, sigma: 1, latents, preview })
          }
          const n = request.batchSize ?? 1
          const first = BigInt(request.seed ?? 1000)
          const seeds = Array.from({ length: n }, (_, i) =>
            typeof request.seed === 'bigint' ? first + BigInt(i) : Number(first) + i,
          )
          const metadata = (i: number) => ({ prompt: request.prompt as string, seed: seeds[i], steps })
          const images = seeds.map((_, i) => new Image(8, 8, new Uint8Array(192).fill(i), metadata(i)))
          const timings = { text: 1, start: 0, denoise: 2, decode: 3, total: 6 }
          return { images, seeds, parameters: [], timings, adapters: [], warnings: options.warnings ?? [] }
        },
      }
    },
    async estimate(path, load, run) {
      calls.estimate.push([path, load, run])
      const memory = { weights: 1024 ** 3, working: 512 * 1024 ** 2, total: 1.5 * 1024 ** 3 }
      if (load.device?.startsWith('cuda')) return { memory }
      return {
        memory,
        seconds: { text: 0.25, step: 1.26, denoise: 25, decode: 4, total: 245 },
      }
    },
    openModel: async () => description,
    async quantize(input, output, request) {
      calls.quantize.push([input, output, request])
      if (options.fail) throw options.fail
      for (const done of [0, 50, 100]) request.onProgress?.({ done, total: 100, tensor: 'unet.a.weight' })
      return report(output)
    },
    async merge(input, output, request) {
      calls.merge.push([input, output, request])
      if (options.fail) throw options.fail
      request.onProgress?.({ done: 50, total: 100, tensor: 'unet.a.weight' })
      const adapter = {
        path: 'style.pt',
        kind: 'LoRA',
        scale: 0.5,
        ranks: [4],
        applied: 6,
        unplaced: ['x\u001b'],
      }
      return { ...report(output), adapters: [adapter] }
    },
    async pull(reference, { variant, onProgress }) {
      calls.pull.push([reference, variant])
      const facts = { repository: 'owner/name', licence: 'mit', total: 4 * 1024 ** 2 }
      for (const [file, part] of [
        ['', 0],
        ['a.json', 0.25],
        ['b.gguf', 0.5],
        ['', 1],
      ] as const)
        onProgress?.({ ...facts, file, done: part * facts.total })
      return '/cache/model'
    },
    cachedModels: async () => [
      {
        repository: 'a/b',
        commit: 'c'.repeat(40),
        revisions: ['main'],
        bytes: 3 * 1024 ** 2,
        path: '/cache/a',
      },
      { repository: 'a/b', commit: 'd'.repeat(40), revisions: ['v1'], bytes: 1024, path: '/cache/b' },
    ],
    wellKnownModels: async () => [{ name: 'sd15', repository: 'x/sd15', about: 'Stable Diffusion 1.5' }],
    devices: async (opened) => ({
      devices: [
        { device: 'cpu', name: 'A CPU' },
        {
          ...{ device: 'cuda:0', name: 'A GPU', memory: 8 * 1024 ** 3, computeCapability: '8.9' },
          ...(opened === 'cuda:0' && {
            productTimes: 'measured on this GPU',
            hopperKernels: 'off: they are slower',
            kernelOverlap: 'off: no faster',
          }),
        },
      ],
      cpu: { features: [], kernels: ['ref'], kernel: 'ref', threads: 4, physicalCores: 4 },
    }),
    schedulerNames: async () => options.schedulers ?? ['ddim', 'euler'],
    presets: async () => [
      { name: 'turbo', scheduler: 'euler-a' as const, steps: 1, guidanceScale: 0, about: 'quick ones' },
    ],
    defaultSchedulerName: async () => 'euler',
    cores: async () => 2,
  }
  return { engine, calls }
}

export interface Outcome {
  code: number
  stdout: string
  bytes: Buffer
  stderr: string
  calls: Calls
}

export interface CallOptions extends FakeOptions {
  stdin?: string
  signal?: AbortSignal
  stdoutTTY?: boolean
  stderrTTY?: boolean
}

/** Runs the program in this process. */
export async function call(args: string[], options: CallOptions = {}): Promise<Outcome> {
  const collect = (isTTY = false) => {
    const stream = Object.assign(new PassThrough(), { isTTY })
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    return { stream, bytes: () => Buffer.concat(chunks) }
  }
  const [out, err] = [collect(options.stdoutTTY), collect(options.stderrTTY)]
  const { engine, calls } = fakeEngine(options)
  const terminal = {
    stdin: options.stdin === undefined ? new PassThrough() : Readable.from([options.stdin]),
    stdout: out.stream,
    stderr: err.stream,
    signal: options.signal ?? new AbortController().signal,
  }
  const code = await run(args, '1.2.3', terminal, engine)
  await sleep(0)
  return { code, stdout: out.bytes().toString(), bytes: out.bytes(), stderr: err.bytes().toString(), calls }
}
