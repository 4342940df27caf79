/** The command line's grammar: every command and option, and nothing of what they do. */
import { Command, Option } from 'commander'
import type { Precision } from '../native.js'
import { deepCache, integer, interval, number, positive, seed, size } from './arguments.js'

export interface GenerateFlags {
  model?: string
  output?: string
  count?: number
  batch?: number
  negative?: string
  size?: { width: number; height: number }
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
  precision?: Precision
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
  generate(prompt: string, flags: GenerateFlags): Promise<void>
  info(model: string, flags: InfoFlags): Promise<void>
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
  node-diffusion quantize sd15.safetensors sd15-q8_0.gguf --type q8_0

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C).`

export function createProgram(version: string, actions: Actions): Command {
  const program = new Command('node-diffusion')
    .description('Draws images from text with Stable Diffusion models, in this process, on this machine.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .argument('<prompt>', 'what the image shows; "-" reads it from standard input')
    // Otherwise the program's own --json and --size would be taken from behind a command's name.
    .enablePositionalOptions()
    .allowExcessArguments(false)
    .showSuggestionAfterError()
    .optionsGroup('Model and output:')
    .option(
      '-m, --model <path>',
      'a .safetensors or .gguf file, or a diffusers folder (default: the model in the box)',
    )
    .option(
      '-o, --output <path>',
      '.png, .jpg or .webp file, a folder, or "-" for standard output (default: named after the prompt)',
    )
    .option('-n, --count <n>', 'number of images; each has the seed after the last', positive)
    .option('-b, --batch <n>', 'how many of them at once: faster, and more memory', positive)
    .addOption(
      new Option('--format <name>', 'of the output, where no file name says it').choices([
        'png',
        'jpeg',
        'webp',
      ]),
    )
    .option('--quality <1-100>', 'of .jpg and .webp files (default: 95)', integer)
    .option('--no-metadata', 'do not write prompt and settings into the file')
    .optionsGroup('What to draw:')
    .option('-N, --negative <text>', 'what the image must not show')
    .option('-s, --size <WxH>', "pixels, such as 512x768 or 512 (default: the model's own)", size)
    .option('--seed <n>', 'the same seed draws the same image (default: random)', seed)
    .option('--init <image>', 'start from this image')
    .option('--strength <0-1>', 'how much of it to give up (default: 0.8; with a mask 1)', number)
    .option('--mask <image>', 'white where the image is to be painted anew')
    .option('--no-weighting', 'brackets and BREAK in the prompt are plain text')
    .optionsGroup('How:')
    .option('--steps <n>', 'denoising steps (default: 25)', positive)
    .option('--cfg <scale>', 'how closely to follow the prompt (default: 7.5)', number)
    .option('--scheduler <name>', 'sampling method; see: node-diffusion schedulers')
    .option('--eta <0-1>', 'share of new noise in each step (default: 0 with ddim, else 1)', number)
    .option('--guidance-rescale <0-1>', 'against overexposure with a high --cfg (default: 0)', number)
    .option('--clip-skip <n>', 'last layers of the text encoder to leave out (default: 0)', integer)
    .addOption(
      new Option('--rng <name>', 'whose random numbers: torch on a CPU, or philox as on a GPU').choices([
        'torch',
        'philox',
      ]),
    )
    .addOption(
      new Option(
        '--precision <type>',
        'of the arithmetic; auto: what the weights and the CPU suggest',
      ).choices(['auto', 'f32', 'bf16', 'int8'] satisfies Precision[]),
    )
    .option('--low-memory', 'read the weights from the file in every step: slower, and none stay in memory')
    .option('--threads <n>', 'default: one for each physical core', positive)
    .optionsGroup('Faster, for a little of the picture (all off by default):')
    .option(
      '--guidance-interval <from-to>',
      'guide only in this part of the steps, such as 0.1-0.8: the others cost half',
      interval,
    )
    .option(
      '--deep-cache <n[:depth]>',
      "compute the UNet's deep layers in every n-th call only, such as 3",
      deepCache,
    )
    .option('--token-merging <0-0.75>', 'share of the tokens that attention leaves out, such as 0.5', number)
    .option(
      '--tiny-vae <path>',
      'a tiny autoencoder (TAESD), a file or a folder: for --preview and --decoder',
    )
    .addOption(
      new Option(
        '--decoder <name>',
        'what makes the image; tiny: the one of --tiny-vae (default: full)',
      ).choices(['full', 'tiny']),
    )
    .optionsGroup('Reports:')
    .option('--preview [file]', 'keep a rough image of each step in this file (default: preview.png)')
    .option('--json', 'print one line of JSON: files, seeds, timings')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print where an error came from')
    .addHelpText('after', EXAMPLES)
    .action((prompt: string, flags: GenerateFlags) => actions.generate(prompt, flags))

  program
    .command('info')
    .description("what a model's files say: architecture, components, sizes")
    .argument('<model>', 'a .safetensors or .gguf file, or a diffusers folder')
    .option('-s, --size <WxH>', 'also load it and say how much memory an image of this size needs', size)
    .option('-b, --batch <n>', 'that many images at once', positive)
    .option('--low-memory', 'with --size: of drawing with --low-memory')
    .option('--json', 'print one line of JSON')
    .option('-v, --verbose', 'print where an error came from')
    .action((model: string, flags: InfoFlags) => actions.info(model, flags))

  program
    .command('quantize')
    .description('write a model as one GGUF file with smaller weights')
    .argument('<model>', 'a .safetensors or .gguf file, or a diffusers folder')
    .argument('<output>', 'the .gguf file to write')
    .requiredOption(
      '-t, --type <name>',
      'q8_0, q6_k, q5_k, q5_1, q5_0, q4_k, q4_1, q4_0, q3_k, q2_k, f16, bf16 or f32',
    )
    .option(
      '-r, --rules <list>',
      'exceptions by tensor name, such as "unet.*attn*=q8_0,*.conv_in.*=f16"; the first that matches counts',
    )
    .option('--json', 'print one line of JSON: sizes, and the error of each part')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print where an error came from, and which tensors have another type')
    .action((input: string, output: string, flags: QuantizeFlags) => actions.quantize(input, output, flags))

  program
    .command('schedulers')
    .description('the sampling methods that --scheduler takes')
    .option('--json', 'print one line of JSON')
    .action((flags: { json?: boolean }) => actions.schedulers(flags))

  // Commander leaves it out where the program itself takes an argument.
  program.helpCommand('help [command]', 'print the help of a command')
  return program
}
