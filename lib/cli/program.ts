/** The command line's grammar: all commands and options, without what they do. */
import { Command, Option } from 'commander'
import type { Precision } from '../native.js'
import type { DeviceOption } from '../types.js'
import { generateAliases } from './aliases.js'
import { deepCache, device, integer, interval, lora, number, positive, seed, size } from './arguments.js'

export interface GenerateFlags {
  model?: string
  output?: string
  count?: number
  batch?: number
  negative?: string
  /** In place of the argument, as other programs have it. */
  prompt?: string
  size?: { width: number; height: number }
  width?: number
  height?: number
  steps?: number
  scheduler?: string
  eta?: number
  seed?: number | bigint
  rng?: 'torch' | 'philox'
  cfg?: number
  guidanceRescale?: number
  guidanceInterval?: [from: number, to: number]
  deepCache?: { interval: number; depth?: number }
  tokenMerging?: number
  clipSkip?: number
  weighting: boolean
  init?: string
  mask?: string
  strength?: number
  device?: DeviceOption
  precision?: Precision
  lora?: { path: string; scale: number }[]
  tinyVae?: string
  decoder?: 'full' | 'tiny'
  lowMemory?: boolean
  threads?: number
  preview?: string | true
  format?: 'png' | 'jpeg' | 'webp'
  quality?: number
  metadata: boolean
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

export interface InfoFlags {
  device?: DeviceOption
  size?: { width: number; height: number }
  batch?: number
  lowMemory?: boolean
  json?: boolean
  verbose?: boolean
}

export interface QuantizeFlags {
  type: string
  rules?: string
  quiet?: boolean
  json?: boolean
  verbose?: boolean
}

export interface Actions {
  generate(prompts: string[], flags: GenerateFlags): Promise<void>
  info(model: string | undefined, flags: InfoFlags): Promise<void>
  quantize(input: string, output: string, flags: QuantizeFlags): Promise<void>
  schedulers(flags: { json?: boolean }): Promise<void>
}

const EXAMPLES = `
Examples:
  node-diffusion "a lighthouse at dawn, oil painting" -m sd15.safetensors
  node-diffusion "a (red:1.3) fox" -m sd15.gguf --steps 20 --seed 7 --size 512x768 -n 4
  node-diffusion "in winter" -m ./model --init photo.jpg --strength 0.6 -o winter.png
  echo "a cat" | node-diffusion - -o - | display
  node-diffusion info sd15.gguf --size 512x512
  node-diffusion info
  node-diffusion quantize sd15.safetensors sd15-q8_0.gguf --type q8_0

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C).`

export function createProgram(version: string, actions: Actions): Command {
  const program = new Command('node-diffusion')
    .description('Generates images from text with Stable Diffusion models, on this machine.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    // Optional, because --prompt is accepted too; several, so that a prompt without quotes gets a hint.
    .argument('[prompt...]', 'what the image shows, in quotes; "-" reads it from standard input')
    .usage('[options] <prompt>')
    // Without this, the program itself would take --json and --size given after a command's name.
    .enablePositionalOptions()
    .allowExcessArguments(false)
    // Ours know the options of other programs.
    .showSuggestionAfterError(false)
    .optionsGroup('Model and output:')
    .option(
      '-m, --model <path>',
      'a .safetensors or .gguf file, or a diffusers folder (default: the bundled model)',
    )
    .option(
      '--lora <file[:scale]>',
      'change the model by a LoRA file, such as style.safetensors:0.8; may be repeated',
      lora,
    )
    .option(
      '-o, --output <path>',
      '.png, .jpg or .webp file, a folder, or "-" for standard output (default: named after the prompt)',
    )
    .option('-n, --count <n>', 'number of images; each uses the next seed', positive)
    .option('-b, --batch <n>', 'number of images in one batch: faster, but takes more memory', positive)
    .addOption(
      new Option('--format <name>', 'image format, if no file name says it').choices(['png', 'jpeg', 'webp']),
    )
    .option('--quality <1-100>', 'quality of .jpg and .webp files (default: 95)', integer)
    .option('--no-metadata', 'do not write the prompt and settings into the file')
    .optionsGroup('Image:')
    .option('-N, --negative <text>', 'what the image must not show')
    .option('-s, --size <WxH>', "pixels, such as 512x768 or 512 (default: the model's own)", size)
    .option('--seed <n>', 'the same seed gives the same image (default: random)', seed)
    .option('--init <image>', 'start from this image')
    .option('--strength <0-1>', 'how much of it to change (default: 0.8; with a mask 1)', number)
    .option('--mask <image>', 'white where the image is repainted')
    .option('--no-weighting', 'treat brackets and BREAK in the prompt as plain text')
    .optionsGroup('Sampling:')
    .option('--steps <n>', 'denoising steps (default: 25)', positive)
    .option('--cfg <scale>', 'how closely to follow the prompt (default: 7.5)', number)
    .option('--scheduler <name>', 'sampling method, see: node-diffusion schedulers')
    .option('--eta <0-1>', 'amount of noise added in each step (default: 0 with ddim, otherwise 1)', number)
    .option('--guidance-rescale <0-1>', 'counteracts overexposure with a high --cfg (default: 0)', number)
    .option('--clip-skip <n>', 'number of last text encoder layers to skip (default: 0)', integer)
    .addOption(
      new Option(
        '--rng <name>',
        'noise as from torch on a CPU, or philox as from the web UIs on a GPU',
      ).choices(['torch', 'philox']),
    )
    .option(
      '--device <name>',
      'auto, cpu, cuda or cuda:<n>; auto takes a GPU if the model fits on one (default: auto)',
      device,
    )
    .addOption(
      new Option('--precision <type>', 'arithmetic type; auto chooses by the weights and the CPU').choices([
        'auto',
        'f32',
        'bf16',
        'int8',
      ] satisfies Precision[]),
    )
    .option(
      '--low-memory',
      'read the weights from the file in every step instead of keeping them in memory: slower',
    )
    .option('--threads <n>', 'number of threads (default: one for each physical core)', positive)
    .optionsGroup('Acceleration, at the cost of fidelity (all off by default):')
    .option(
      '--guidance-interval <from-to>',
      'apply guidance only in this part of the steps, such as 0.1-0.8; the others cost half',
      interval,
    )
    .option(
      '--deep-cache <n[:depth]>',
      "compute the UNet's deep layers only in every n-th call, such as 3",
      deepCache,
    )
    .option(
      '--token-merging <0-0.75>',
      'fraction of the tokens that self-attention merges, such as 0.5',
      number,
    )
    .option('--tiny-vae <path>', 'file or folder of a tiny autoencoder (TAESD), for --preview and --decoder')
    .addOption(
      new Option(
        '--decoder <name>',
        'autoencoder that decodes the image; tiny is that of --tiny-vae (default: full)',
      ).choices(['full', 'tiny']),
    )
    .optionsGroup('Reporting:')
    .option('--preview [file]', 'write a preview of each step to this file (default: preview.png)')
    .option('--json', 'print one line of JSON: files, seeds, timings')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print the stack trace of an error')
    .addHelpText('after', EXAMPLES)
    .action((prompts: string[], flags: GenerateFlags) => actions.generate(prompts, flags))
  for (const alias of generateAliases()) program.addOption(alias)

  program
    .command('info')
    .description(
      "describe a model's files: architecture, components, sizes; without a model, list the devices",
    )
    .argument('[model]', 'a .safetensors or .gguf file, or a diffusers folder')
    .option(
      '-s, --size <WxH>',
      'also load the model and print the memory that an image of this size needs',
      size,
    )
    .option('-b, --batch <n>', 'with --size: for a batch of this many images', positive)
    .option('--device <name>', 'with --size: where to load the model (default: auto)', device)
    .option('--low-memory', 'with --size: for a run with --low-memory')
    .option('--json', 'print one line of JSON')
    .option('-v, --verbose', 'print the stack trace of an error')
    .action((model: string | undefined, flags: InfoFlags) => actions.info(model, flags))

  program
    .command('quantize')
    .description('write a model as one GGUF file with quantized weights')
    .argument('<model>', 'a .safetensors or .gguf file, or a diffusers folder')
    .argument('<output>', 'the .gguf file to write')
    .requiredOption(
      '-t, --type <name>',
      'q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, q4_0, q3_k, q2_k, f16, bf16 or f32',
    )
    .option(
      '-r, --rules <list>',
      'exceptions by tensor name, such as "unet.*attn*=q8_0,*.conv_in.*=f16"; the first match counts',
    )
    .option('--json', 'print one line of JSON: sizes and the error of each part')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print the stack trace of an error, and the tensors that got another type')
    .action((input: string, output: string, flags: QuantizeFlags) => actions.quantize(input, output, flags))

  program
    .command('schedulers')
    .description('list the sampling methods for --scheduler')
    .option('--json', 'print one line of JSON')
    .action((flags: { json?: boolean }) => actions.schedulers(flags))

  // Commander does not add it to a program that takes an argument itself.
  program.helpCommand('help [command]', 'print the help of a command')
  return program
}
