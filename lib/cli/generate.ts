/** `node-diffusion "prompt"`: loads the model, generates the images and writes the files. */
import type { Image } from '../image/image.js'
import type { GenerateOptions } from '../options/index.js'
import { maxPromptLength } from '../options/texts.js'
import type { Timings } from '../pipeline/result.js'
import type { PresetName } from '../options/presets.js'
import type { SchedulerName } from '../schedulers/index.js'
import type { DeviceName } from '../types.js'
import { printable, shorten } from '../quote.js'
import type { CliPipeline, Engine } from './engine.js'
import { planOutput, writeImage, type OutputPlan } from './output.js'
import { PreviewFile, previewPath } from './preview-file.js'
import { fetchModel } from './hub.js'
import { createProgress, silent, type Progress } from './progress.js'
import { checkFiles, checkFlags, checkNames } from './check-flags.js'
import { countOf, type GenerateFlags } from './flags.js'
import { readPrompt } from './read-prompt.js'
import { jsonLine, print, printBytes, printPaths, tell, UsageError, type Terminal } from './terminal.js'
import { inFlags } from './wording.js'

interface Totals {
  device: DeviceName
  files: string[]
  seeds: (number | bigint)[]
  timings: Timings & { load: number }
  warnings: string[]
}

export async function generate(
  prompts: string[],
  flags: GenerateFlags,
  terminal: Terminal,
  engine: Engine,
): Promise<void> {
  const given = promptOf(prompts, flags)
  checkFlags(flags, terminal)
  await checkNames(flags, engine)
  const plan = await planOutput(flags.output, flags.format, countOf(flags))
  await checkFiles(flags, engine)
  const prompt = given === '-' ? await readPrompt(terminal) : given
  const warnings = await threadWarnings(flags, engine)
  if (!flags.quiet && !flags.json) warn(terminal, warnings)
  const progress = flags.quiet || flags.json ? silent : await createProgress(terminal.stderr)
  try {
    progress.phase('Loading the model')
    const began = performance.now()
    const local = <Path extends string | undefined>(path: Path) =>
      fetchModel(path, flags, terminal, engine, progress)
    const model = await local(flags.model)
    const [unet, vae] = [await local(flags.unet), await local(flags.vae)]
    const textEncoders: string[] = []
    for (const path of flags.textEncoder ?? []) textEncoders.push(await local(path))
    const refiner = await local(flags.refiner)
    const tinyVae = await local(flags.tinyVae)
    const loras: NonNullable<GenerateFlags['lora']> = []
    for (const { path, scale } of flags.lora ?? []) loras.push({ path: await local(path), scale })
    const embeddings: NonNullable<GenerateFlags['embedding']> = []
    for (const one of flags.embedding ?? []) embeddings.push({ ...one, path: await local(one.path) })
    const imageEncoder = await local(flags.imageEncoder)
    const ipAdapters: { path: string; imageEncoder?: string }[] = []
    for (const path of flags.ipAdapter ?? []) ipAdapters.push({ path: await local(path), imageEncoder })
    const { controlNets, controls } = controlsOf(flags)
    const fetchedNets: string[] = []
    for (const path of controlNets) fetchedNets.push(await local(path))
    const pipe = await engine.load(model, {
      device: flags.device,
      threads: flags.threads,
      precision: flags.precision,
      kernels: flags.kernels,
      ...(flags.lora && { loras }),
      ...(flags.embedding && { embeddings }),
      ...(flags.ipAdapter && { ipAdapters }),
      ...(controls && { controlNets: fetchedNets }),
      variant: flags.variant,
      ...(unet !== undefined && { unet }),
      ...(vae !== undefined && { vae }),
      ...(flags.textEncoder && { textEncoders }),
      ...(flags.prediction && { predictionType: flags.prediction }),
      ...(flags.spacing && { timestepSpacing: flags.spacing }),
      ...(flags.zeroSnr && { rescaleBetasZeroSnr: true }),
      refiner,
      loraFolder: flags.loraFolder,
      tinyVae,
      lowMemory: flags.lowMemory,
      signal: terminal.signal,
    })
    try {
      const command = new GenerateCommand(prompt, flags, plan, pipe, terminal, progress)
      if (flags.json) command.totals.warnings.push(...warnings)
      command.totals.timings.load = performance.now() - began
      await command.run()
      progress.stop()
      await report(command.totals, flags, terminal, performance.now() - began)
    } finally {
      await pipe.dispose()
    }
  } finally {
    progress.stop()
  }
}

/** The ControlNets that are loaded, each once, and what generate() takes for them. */
function controlsOf({ control }: GenerateFlags): {
  controlNets: string[]
  controls: GenerateOptions['controls']
} {
  const controlNets = [...new Set(control?.map(({ net }) => net))]
  return {
    controlNets,
    controls: control?.map(({ net, ...settings }) => ({ net: controlNets.indexOf(net), ...settings })),
  }
}

/** The prompt, or '-'. */
function promptOf(prompts: string[], flags: GenerateFlags): string {
  const all = flags.prompt === undefined ? prompts : [flags.prompt, ...prompts]
  if (all.length === 0) throw new UsageError("missing required argument 'prompt'; see: node-diffusion --help")
  if (flags.prompt !== undefined && prompts.length > 0)
    throw new UsageError('the prompt was given twice: as an argument and with --prompt')
  if (all.length > 1) {
    const words = JSON.stringify(shorten(all.join(' ')))
    throw new UsageError(`too many arguments; put the prompt in quotes: node-diffusion ${words}`)
  }
  if (all[0].length > maxPromptLength)
    throw new UsageError(`expected a prompt of at most ${maxPromptLength} characters`)
  return all[0]
}

/** With more threads than cores, each layer waits for threads that are not running. */
async function threadWarnings({ threads }: GenerateFlags, engine: Engine): Promise<string[]> {
  if (threads === undefined) return []
  const cores = await engine.cores()
  if (threads <= cores) return []
  const available = cores === 1 ? '1 core is' : `${cores} cores are`
  return [`--threads ${threads} is slower than --threads ${cores}, as ${available} available`]
}

/** Makes as many generate() calls as the images need. */
class GenerateCommand {
  readonly totals: Totals = {
    device: 'cpu',
    files: [],
    seeds: [],
    timings: { load: 0, text: 0, start: 0, denoise: 0, decode: 0, total: 0 },
    warnings: [],
  }
  readonly #count: number
  readonly #preview: PreviewFile | undefined

  constructor(
    private readonly prompt: string,
    private readonly flags: GenerateFlags,
    private readonly plan: OutputPlan,
    private readonly pipe: CliPipeline,
    private readonly terminal: Terminal,
    private readonly progress: Progress,
  ) {
    this.totals.device = pipe.device
    this.#count = countOf(flags)
    const { preview } = flags
    if (preview !== undefined) {
      // Without a tiny autoencoder, a preview has one pixel for each latent.
      const enlarged = flags.tinyVae === undefined ? pipe.model.factor : 1
      this.#preview = new PreviewFile(previewPath(preview), enlarged)
    }
  }

  async run(): Promise<void> {
    const batch = Math.min(this.flags.batch ?? 1, this.#count)
    let seed = this.flags.seed
    for (let done = 0; done < this.#count;) {
      const size = Math.min(batch, this.#count - done)
      const seeds = await this.#generate(done, size, seed)
      done += size
      // The next batch continues with the following seed, also if the first one was random.
      seed = next(seeds.at(-1)!)
    }
  }

  /** Generates and writes images done … done + size − 1; returns their seeds. */
  async #generate(
    done: number,
    size: number,
    seed: number | bigint | undefined,
  ): Promise<(number | bigint)[]> {
    this.progress.phase('Encoding the prompt')
    const options = this.#options(size, seed, this.#label(done, size))
    const { images, seeds, timings, warnings } = await this.pipe.generate(options)
    for (const key of ['text', 'start', 'denoise', 'decode'] as const)
      this.totals.timings[key] += timings[key]
    for (const warning of warnings.map(inFlags))
      if (!this.totals.warnings.includes(warning)) this.totals.warnings.push(warning)
    for (const [i, image] of images.entries()) await this.#write(image, seeds[i], done + i)
    await this.#preview?.settled()
    return seeds
  }

  #options(batchSize: number, seed: number | bigint | undefined, label: string): GenerateOptions {
    const { flags } = this
    return {
      prompt: this.prompt,
      negativePrompt: flags.negative,
      width: flags.size?.width ?? flags.width,
      height: flags.size?.height ?? flags.height,
      steps: flags.steps,
      guidanceScale: flags.cfg,
      imageGuidanceScale: flags.imageCfg,
      prompt2: flags.prompt2,
      negativePrompt2: flags.negative2,
      originalSize: flags.originalSize,
      targetSize: flags.targetSize,
      cropTopLeft: flags.crop,
      preset: flags.preset as PresetName | undefined,
      noiseLevel: flags.noiseLevel,
      refinerStart: flags.refinerStart,
      guidanceRescale: flags.guidanceRescale,
      guidanceInterval: flags.guidanceInterval,
      deepCache: flags.deepCache,
      tokenMerging: flags.tokenMerging,
      seed,
      rng: flags.rng,
      batchSize,
      // --eta without a scheduler means DDIM, where it comes from.
      scheduler: (flags.scheduler ??
        (flags.eta === undefined || flags.preset !== undefined ? undefined : 'ddim')) as SchedulerName,
      schedulerOptions: flags.eta === undefined ? undefined : { eta: flags.eta },
      clipSkip: flags.clipSkip,
      weighting: flags.weighting,
      image: flags.init,
      mask: flags.mask,
      depth: flags.depth,
      imagePrompts: flags.imagePrompt?.map((prompt, i) => ({
        ...prompt,
        adapter: flags.ipAdapter!.length > 1 ? i : 0,
      })),
      ...(flags.control && { controls: controlsOf(flags).controls }),
      strength: flags.strength,
      decoder: flags.decoder,
      signal: this.terminal.signal,
      onStep: (event) => {
        this.progress.step(event.step, event.steps, label)
        if (this.#preview) this.#preview.offer(event.preview)
        if (event.step === event.steps) this.progress.phase('Decoding the image')
      },
    }
  }

  async #write(image: Image, seed: number | bigint, index: number): Promise<void> {
    const { flags, plan, terminal } = this
    const encoding = { quality: flags.quality, metadata: flags.metadata }
    const bytes = await image.toBuffer(plan.format, encoding)
    if (plan.folder === undefined) {
      await printBytes(terminal, bytes)
    } else {
      const facts = { prompt: this.prompt, seed, index, count: this.#count }
      this.totals.files.push(await writeImage(plan, bytes, facts, terminal.signal))
    }
    this.totals.seeds.push(seed)
  }

  #label(done: number, size: number): string {
    if (this.#count === 1) return ''
    return size === 1
      ? `Image ${done + 1} of ${this.#count}`
      : `Images ${done + 1}–${done + size} of ${this.#count}`
  }
}

function next(seed: number | bigint): number | bigint {
  const value = BigInt.asUintN(64, BigInt(seed) + 1n)
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value
}

async function report(
  totals: Totals,
  flags: GenerateFlags,
  terminal: Terminal,
  totalMs: number,
): Promise<void> {
  const { device, files, seeds, timings, warnings } = totals
  timings.total = totalMs
  if (flags.json) {
    const rounded = Object.fromEntries(
      Object.entries<number>({ ...timings }).map(([name, ms]) => [`${name}Ms`, Math.round(ms)]),
    )
    await print(terminal, jsonLine({ device, files, seed: seeds[0], seeds, timings: rounded, warnings }))
    return
  }
  if (flags.quiet) return
  warn(terminal, warnings)
  await printPaths(terminal, files)
  const seed = seeds.length > 1 ? `seeds ${seeds[0]} to ${seeds.at(-1)}` : `seed ${seeds[0]}`
  tell(terminal, `${seed}, ${(totalMs / 1000).toFixed(1)} s\n`)
}

function warn(terminal: Terminal, warnings: readonly string[]): void {
  for (const warning of warnings) tell(terminal, `warning: ${printable(warning)}\n`)
}
