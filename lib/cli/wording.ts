/** The library's messages in the words of the command line: flags in place of options, values without their types. */

/** Names that no other text has in common with an option. */
const FLAGS: Record<string, string> = {
  negativePrompt: '--negative',
  guidanceScale: '--cfg',
  guidanceRescale: '--guidance-rescale',
  guidanceInterval: '--guidance-interval',
  imageGuidanceScale: '--image-cfg',
  prompt2: '--prompt-2',
  negativePrompt2: '--negative-2',
  originalSize: '--original-size',
  targetSize: '--target-size',
  cropTopLeft: '--crop',
  predictionType: '--prediction',
  timestepSpacing: '--spacing',
  textEncoders: '--text-encoder',
  noiseLevel: '--noise-level',
  'deepCache.interval': '--deep-cache',
  'deepCache.depth': 'the depth of --deep-cache',
  deepCache: '--deep-cache',
  tokenMerging: '--token-merging',
  clipSkip: '--clip-skip',
  batchSize: '--batch',
  refinerStart: '--refiner-start',
  tinyVae: '--tiny-vae',
  lowMemory: '--low-memory',
  controls: '--control',
  controlNets: '--control',
}

/** Names that are also words. They are options only where a message names one. */
const WORDS: Record<string, string> = {
  prompt: 'the prompt',
  width: 'the width',
  height: 'the height',
  image: '--init',
  ...Object.fromEntries(
    [
      ...[
        'steps',
        'scheduler',
        'seed',
        'rng',
        'mask',
        'depth',
        'strength',
        'decoder',
        'threads',
        'precision',
        'kernels',
        'eta',
      ],
      ...['quality', 'type', 'rules'],
    ].map((name) => [name, `--${name}`]),
  ),
}

const option = (names: Record<string, string>) =>
  `(${Object.keys(names)
    .map((name) => name.replace('.', '[.]'))
    .join('|')})`
/** Not a part of a path, a quoted text or a longer name. */
const alone = (pattern: string) => `(?<![\\w./\\\\"'-])${pattern}(?![\\w/\\\\"'-]|[.]\\w)`
const FLAG = new RegExp(alone(option(FLAGS)), 'g')
const WORD = new RegExp(
  `(?<=\\bfor )${option(WORDS)}(?= but received\\b|, as\\b)|(?<=^|^Expected |^Expected no |, as |^Scheduler option )${option(WORDS)}(?=, as\\b| was given\\b| has no effect\\b)`,
  'g',
)

/** A message of the library as the command line says it. */
export function inFlags(message: string): string {
  return (
    inputChannels(message) ??
    message
      .replace(/\bcontrols\[\d+\]\.(\w+)/g, 'the $1 of --control')
      .replace(FLAG, (name) => FLAGS[name])
      .replace(WORD, (name) => WORDS[name])
      .replace(/^Scheduler option (--eta has no effect on [^,]+), which takes .*$/s, '$1')
      .replace(/( but received .*) of type (?:string|number|bigint)\b/s, '$1')
  )
}

/** What to give to a model whose UNet takes more than latents. */
function inputChannels(message: string): string | undefined {
  const [, wanted] = /^Expected (\d+ channels) for extraChannels/.exec(message) ?? []
  if (wanted === undefined) return undefined
  return `This model takes ${wanted} besides the latents, which only the library can give (extraChannels)`
}
