/** Options as other programs for Stable Diffusion spell them: those that are accepted, and hints for the others. */
import { Option, type Command } from 'commander'
import { closest } from '../spelling.js'
import { number, positive } from './arguments.js'

/** A second spelling of an option. It is accepted, but not part of the help. */
class Alias extends Option {
  readonly #of: string

  /** @param of the key of the flag that it sets */
  constructor(flags: string, of: string, parse?: (text: string) => unknown) {
    super(flags)
    this.#of = of
    this.hideHelp()
    if (parse) this.argParser(parse)
  }

  override attributeName(): string {
    return this.#of
  }
}

/** The spellings of stable-diffusion.cpp, diffusers' scripts and the web UIs' API. */
export function generateAliases(): Option[] {
  const side = (flags: string, of: string) => new Alias(flags, of, positive).conflicts('size')
  return [
    new Alias('-p, --prompt <text>', 'prompt'),
    new Alias('--negative-prompt <text>', 'negative'),
    side('-W, --width <n>', 'width'),
    side('-H, --height <n>', 'height'),
    new Alias('--cfg-scale <scale>', 'cfg', number),
    new Alias('--guidance-scale <scale>', 'cfg', number),
    new Alias('--image-guidance-scale <scale>', 'imageCfg', number),
    new Alias('--image-cfg-scale <scale>', 'imageCfg', number),
    new Alias('--img-cfg-scale <scale>', 'imageCfg', number),
    new Alias('--sampler <name>', 'scheduler'),
    new Alias('--sampler-name <name>', 'scheduler'),
    new Alias('--sampling-method <name>', 'scheduler'),
    new Alias('--num-inference-steps <n>', 'steps', positive),
    new Alias('--sampling-steps <n>', 'steps', positive),
    new Alias('--batch-count <n>', 'count', positive),
    new Alias('--batch-size <n>', 'batch', positive),
    new Alias('--init-img <image>', 'init'),
    new Alias('--init-image <image>', 'init'),
    new Alias('--image <image>', 'init'),
    new Alias('--mask-image <image>', 'mask'),
    new Alias('--denoising-strength <0-1>', 'strength', number),
    new Alias('--taesd <path>', 'tinyVae'),
  ]
}

const CONTROL = 'A ControlNet is given with its picture: --control canny.safetensors=photo.jpg:0.7.'

/** What to do instead of an option that does not exist. */
const INSTEAD: Record<string, string> = {
  '--lora-model-dir': 'LoRA files are named one by one: --lora style.safetensors:0.8.',
  '--control-net': CONTROL,
  '--controlnet': CONTROL,
  '--control-image': CONTROL,
  '--control-strength': CONTROL,
  '--schedule': 'It is part of the name of the sampling method: --scheduler dpm++-2m-karras.',
  '--vae-tiling': 'Large images are decoded in bands of rows without an option.',
  '--type': 'To change the type of the weights, see: node-diffusion help quantize.',
}

/** A hint for an option that does not exist, such as `Did you mean --steps?`. */
export function hintFor(unknown: string, command: Command): string | undefined {
  const name = unknown.replace(/=.*/s, '')
  const instead = Object.hasOwn(INSTEAD, name) ? INSTEAD[name] : undefined
  if (instead !== undefined) return instead
  const known = command.options.flatMap(({ long }) => long ?? [])
  const near = closest(name.replaceAll('_', '-'), known)
  return near === undefined ? undefined : `Did you mean ${near}?`
}
