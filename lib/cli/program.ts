/** The command line's grammar: all commands and options, without what they do. */
import { Command, Option } from 'commander'
import type { Kernels, Precision } from '../native.js'
import { generateAliases } from './aliases.js'
import {
  control,
  crop,
  deepCache,
  device,
  embedding,
  imagePrompt,
  integer,
  interval,
  lora,
  number,
  paths,
  positive,
  prediction,
  seed,
  size,
} from './arguments.js'
import type { BuildFlags, GenerateFlags, InfoFlags, MergeFlags, PullFlags, QuantizeFlags } from './flags.js'

export interface Actions {
  generate(prompts: string[], flags: GenerateFlags): Promise<void>
  info(model: string | undefined, flags: InfoFlags): Promise<void>
  quantize(input: string, output: string, flags: QuantizeFlags): Promise<void>
  merge(input: string, output: string, flags: MergeFlags): Promise<void>
  pull(reference: string, flags: PullFlags): Promise<void>
  list(flags: { json?: boolean }): Promise<void>
  schedulers(flags: { json?: boolean }): Promise<void>
  presets(flags: { json?: boolean }): Promise<void>
  build(flags: BuildFlags): Promise<void>
}

const EXAMPLES = `
Examples:
  node-diffusion "a lighthouse at dawn, oil painting" -m sd15.safetensors
  node-diffusion "a (red:1.3) fox" -m sd15.gguf --seed 7 --size 512x768 -n 4
  node-diffusion "in winter" --init photo.jpg --strength 0.6 -o winter.png
  node-diffusion "a house" --control canny.safetensors=photo.jpg:0.7:canny
  node-diffusion "make it snow" -m instruct-pix2pix.safetensors --init photo.jpg
  echo "a cat" | node-diffusion - -o - | display
  node-diffusion info sd15.gguf --size 512x512
  node-diffusion info
  node-diffusion pull sd15
  node-diffusion quantize sd15.safetensors sd15-q8_0.gguf --type q8_0
  node-diffusion merge sd15.safetensors new.gguf --lora style.safetensors:0.8

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (Ctrl-C).`

export function createProgram(version: string, actions: Actions): Command {
  const program = new Command('node-diffusion')
    .description('Generates images from text with Stable Diffusion models, on this machine.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    // Optional, because --prompt is accepted too; several, so that a prompt without quotes gets a hint.
    .argument('[prompt...]', 'what the image shows, in quotes; "-" reads it from standard input')
    .usage('[options] <prompt>\n       node-diffusion <command> …')
    // Without this, the program itself would take --json and --size given after a command's name.
    .enablePositionalOptions()
    .allowExcessArguments(false)
    // Ours know the options of other programs.
    .showSuggestionAfterError(false)
    .optionsGroup('Model and output:')
    .option(
      '-m, --model <path>',
      'a .safetensors, .gguf or .ckpt file, a diffusers folder, hf:owner/name, or a short name as of "ls" (default: the small bundled model)',
    )
    .option('--variant <name>', 'which of several weights of a folder to read, such as fp16')
    .option('--unet <path>', "a file or folder whose UNet takes the place of the model's")
    .option('--vae <path>', "a file or folder whose autoencoder takes the place of the model's")
    .option('--text-encoder <path>', "the same for the text encoder; given twice, for both of SDXL's", paths)
    .option(
      '--refiner <path>',
      "a model that takes the last steps over, such as SDXL's refiner; a file, a folder or as for --model",
    )
    .option(
      '--lora <file[:scale]>',
      'apply a LoRA file, such as style.safetensors:0.8; can be given several times',
      lora,
    )
    .option('--lora-folder <path>', 'folder of the LoRA files that prompts name, as in <lora:style:0.8>')
    .option(
      '--embedding <file[=token]>',
      'a textual inversion file, such as easynegative.pt, whose name then is a word of prompts; can be given several times',
      embedding,
    )
    .option(
      '--ip-adapter <file>',
      'an IP-Adapter for --image-prompt; given several times, one for each of these',
      paths,
    )
    .option(
      '--image-encoder <path>',
      'its image encoder, a file or folder (default: image_encoder beside it, or in the folder of the model)',
    )
    .option(
      '--control <net=image[:scale]>',
      'guide by a picture through a ControlNet, ControlLLLite or T2I-Adapter, such as canny.safetensors=photo.jpg:0.7; further settings follow ' +
        'after colons, such as :0-0.5 for the first half of the steps and :canny for edges of a photo, or :type=depth for what the picture of a union ControlNet shows; can be given several times',
      control,
    )
    .option(
      '-o, --output <path>',
      'a .png, .jpg or .webp file, a folder, or "-" for standard output (default: a file named after the prompt)',
    )
    .option('-n, --count <n>', 'number of images; each one has the next seed (default: 1)', positive)
    .option(
      '-b, --batch <n>',
      'images drawn at once: faster for each, but takes more memory (default: 1)',
      positive,
    )
    .addOption(
      new Option('--format <name>', 'format, if no file name says it').choices(['png', 'jpeg', 'webp']),
    )
    .option('--quality <1-100>', 'quality of .jpg and .webp files (default: 95)', integer)
    .option('--no-metadata', 'do not write the prompt and settings into the file')
    .optionsGroup('Image:')
    .option('-N, --negative <text>', 'what the image must not show')
    .option('-s, --size <WxH>', "pixels, such as 512x768 or 512 (default: the model's own)", size)
    .option(
      '--seed <n>',
      'start of the random numbers: the same seed gives the same image (default: random)',
      seed,
    )
    .option('--init <image>', 'start from this image; --size resizes it')
    .option('--strength <0-1>', 'how much of it to change (default: 0.8; 1 with --mask)', number)
    .option('--mask <image>', 'image that is white where --init is repainted')
    .option('--depth <image>', 'depth map to draw by, light where things are near (Stable Diffusion 2 depth)')
    .option(
      '--image-prompt <image[:scale]>',
      'draw what this image shows, such as photo.jpg:0.6, by --ip-adapter; can be given several times',
      imagePrompt,
    )
    .option('--prompt-2 <text>', "SDXL: the second text encoder's prompt (default: the prompt)")
    .option('--negative-2 <text>', 'SDXL: the same for --negative')
    .option('--original-size <WxH>', 'SDXL: size before scaling; small ones look blurred', size)
    .option('--target-size <WxH>', 'SDXL: size that the image is to have (default: its size)', size)
    .option('--crop <top,left>', 'SDXL: pixels that were cropped (default: 0,0)', crop)
    .option('--no-weighting', 'treat brackets and BREAK in the prompt as plain text')
    .optionsGroup('Sampling:')
    .option('--steps <n>', 'denoising steps (default: 25)', positive)
    .option(
      '--cfg <scale>',
      'how closely to follow the prompt (default: 7.5; 3 for the bundled model)',
      number,
    )
    .option(
      '--image-cfg <scale>',
      'InstructPix2Pix: how closely to follow --init, the image to edit (default: 1.5)',
      number,
    )
    .option(
      '--noise-level <n>',
      'upscalers: how much noise --init, the image to enlarge, gets (default: 20)',
      integer,
    )
    .option('--refiner-start <0-1>', 'share of the steps before --refiner takes over (default: 0.8)', number)
    .option(
      '--scheduler <name>',
      "sampling method; for a list: node-diffusion schedulers (default: the model's own)",
    )
    .option(
      '--preset <name>',
      'scheduler, steps and --cfg of few-step models, such as turbo; for a list: node-diffusion presets',
    )
    .option(
      '--prediction <type>',
      "what the UNet predicts: epsilon, v or sample (default: as the model's files tell)",
      prediction,
    )
    .addOption(
      new Option('--spacing <name>', "spacing of the timesteps (default: as the model's files tell)").choices(
        ['leading', 'linspace', 'trailing'],
      ),
    )
    .option('--zero-snr', 'the last training timestep is pure noise, for models that were trained so')
    .option('--eta <0-1>', 'amount of noise added in each step (default: 0 with ddim, otherwise 1)', number)
    .option('--guidance-rescale <0-1>', 'counteract the overexposure of a high --cfg (default: 0)', number)
    .option(
      '--clip-skip <n>',
      "number of the text encoder's last layers to leave out; 1 is clip skip 2 in web UIs (default: 0)",
      integer,
    )
    .addOption(
      new Option(
        '--rng <name>',
        'noise as from torch on a CPU, or as from web UIs on a GPU (philox)',
      ).choices(['torch', 'philox']),
    )
    .option(
      '--device <name>',
      'auto, cpu, cuda or cuda:<n>; auto takes a GPU if the model fits on one (default: auto)',
      device,
    )
    .addOption(
      new Option(
        '--precision <type>',
        'type to compute in; auto chooses by the weights and the device',
      ).choices(['auto', 'f32', 'bf16', 'int8'] satisfies Precision[]),
    )
    .addOption(
      new Option(
        '--kernels <name>',
        'portable: the same bytes on every CPU of an architecture, at half of the speed or less',
      ).choices(['auto', 'portable'] satisfies Kernels[]),
    )
    .option('--low-memory', 'read the weights again in every step instead of keeping them in memory: slower')
    .option(
      '--threads <n>',
      'number of threads; more than the physical cores are much slower (default: one for each physical core)',
      positive,
    )
    .optionsGroup('Acceleration, which changes the image (off by default):')
    .option(
      '--guidance-interval <from-to>',
      'apply --cfg only in this part of the steps, such as 0.1-0.8; other steps take half the time',
      interval,
    )
    .option(
      '--deep-cache <n[:depth]>',
      "compute the UNet's deep layers only in every n-th step, such as 3",
      deepCache,
    )
    .option(
      '--token-merging <0-0.75>',
      'fraction of the tokens that self-attention merges, such as 0.5',
      number,
    )
    .option('--tiny-vae <path>', 'a tiny autoencoder (TAESD), a file or folder, for --preview and --decoder')
    .addOption(
      new Option(
        '--decoder <name>',
        'autoencoder that decodes the image; tiny is the one of --tiny-vae (default: full)',
      ).choices(['full', 'tiny']),
    )
    .optionsGroup('Reporting:')
    .option('--preview [file]', 'write a preview of each step to this file (default: preview.png)')
    .option('--json', 'print one line of JSON: files, seeds, timings, warnings')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print the stack trace of an error')
    .addHelpText('after', EXAMPLES)
    .action((prompts: string[], flags: GenerateFlags) => actions.generate(prompts, flags))
  for (const alias of generateAliases()) program.addOption(alias)

  program
    .command('info')
    .summary("describe a model's files; without a model, list the devices")
    .description(
      "Describes a model's files: architecture, components, sizes. Without a model, it lists the devices.",
    )
    .argument('[model]', 'a file, a diffusers folder or hf:owner/name, as for --model')
    .option(
      '-s, --size <WxH>',
      'also print the memory and time that an image of this size takes; nothing is loaded',
      size,
    )
    .option('-b, --batch <n>', 'with --size: for a batch of this many images', positive)
    .option('--steps <n>', 'with --size: denoising steps (default: 25)', positive)
    .option('--cfg <scale>', 'with --size: 1 takes half the time (default: 7.5)', number)
    .option(
      '--device <name>',
      'with --size: load the model there, and print the memory alone (default: cpu); without a model: try its kernels',
      device,
    )
    .option('--low-memory', 'with --size: for a run with --low-memory')
    .option('--json', 'print one line of JSON')
    .option('-v, --verbose', 'print the stack trace of an error')
    .action((model: string | undefined, flags: InfoFlags) => actions.info(model, flags))

  program
    .command('quantize')
    .summary('write a model as one GGUF file with quantized weights')
    .description('Writes a model as one GGUF file with quantized weights.')
    .argument('<model>', 'a file, a diffusers folder or hf:owner/name, as for --model')
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
    .command('merge')
    .summary('write a model with LoRA files merged into it')
    .description('Writes a model with LoRA files merged into its weights as one GGUF file.')
    .argument('<model>', 'a file, a diffusers folder or hf:owner/name, as for --model')
    .argument('<output>', 'the .gguf file to write')
    .addOption(
      new Option(
        '--lora <file[:scale]>',
        'a LoRA file, such as style.safetensors:0.8; can be given several times',
      )
        .argParser(lora)
        .makeOptionMandatory(),
    )
    .option('-t, --type <name>', 'type of most weights, as for quantize (default: as they are stored)')
    .option('-r, --rules <list>', 'exceptions by tensor name, as for quantize')
    .option('--json', 'print one line of JSON: sizes, the error of each part, and what each file changed')
    .option('-q, --quiet', 'print nothing but errors')
    .option('-v, --verbose', 'print the stack trace of an error, and all tensors without a place')
    .action((input: string, output: string, flags: MergeFlags) => actions.merge(input, output, flags))

  program
    .command('pull')
    .summary('download a model from the Hugging Face Hub')
    .description("Downloads a model from the Hugging Face Hub into the cache of Hugging Face's programs.")
    .argument('<model>', 'owner/name[@revision][:file], or a short name as of "ls"')
    .option('--variant <name>', 'which of several weights to download, such as fp16 (default) or ema')
    .option('--json', 'print one line of JSON: the path')
    .option('-q, --quiet', 'print nothing but the path and errors')
    .option('-v, --verbose', 'print the stack trace of an error')
    .action((reference: string, flags: PullFlags) => actions.pull(reference, flags))

  program
    .command('ls')
    .summary('list the downloaded models, and well-known ones')
    .description('Lists the downloaded models, and the short names of well-known ones.')
    .option('--json', 'print one line of JSON')
    .action((flags: { json?: boolean }) => actions.list(flags))

  program
    .command('schedulers')
    .summary('list the sampling methods for --scheduler')
    .description('Lists the sampling methods for --scheduler.')
    .option('--json', 'print one line of JSON')
    .action((flags: { json?: boolean }) => actions.schedulers(flags))

  program
    .command('presets')
    .summary('list the settings of few-step models for --preset')
    .description('Lists the settings of few-step models for --preset.')
    .option('--json', 'print one line of JSON')
    .action((flags: { json?: boolean }) => actions.presets(flags))

  program
    .command('build')
    .description('compile the native addon on this machine, where no prebuilt one fits')
    .option('--native', 'for this CPU alone (-march=native)')
    .option('--if-needed', 'do nothing if there is an addon that loads')
    .option('-v, --verbose', 'print the stack trace of an error')
    .action((flags: BuildFlags) => actions.build(flags))

  // Names without the options, so that the column of names leaves room for what they mean.
  program.configureHelp({
    subcommandTerm: (command) =>
      [
        command.name(),
        ...command.registeredArguments.map((a) => (a.required ? `<${a.name()}>` : `[${a.name()}]`)),
      ].join(' '),
  })
  // Commander does not add it to a program that takes an argument itself.
  program.helpCommand('help [command]', 'print the help of a command')
  return program
}
