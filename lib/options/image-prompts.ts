/** The option `imagePrompts` of generate(): images that say what is drawn, through IP-Adapters. */
import { checkInteger, checkList, checkObject, copyTensor, isArray } from '../check.js'
import type { Tensor } from '../types.js'
import { checkGuiding, type Guiding } from './guiding.js'
import { copyImage, type ImageInput } from './images.js'

/** Images that a run attends to as it does to the prompt, through an IP-Adapter. */
export interface ImagePromptOptions {
  /** Which of load()'s `ipAdapters`, counted from 0. Default: 0. */
  adapter?: number
  /** One image, or several that are attended to together. A tensor [n, 3, h, w] in −1…1 counts as n. */
  image?: ImageInput | readonly ImageInput[]
  /**
   * Embeddings in place of `image`, as a face recognizer or an image encoder makes them: [images, width], or [images,
   * tokens, width] for adapters that take hidden states. For adapters of the kind FaceID Plus, those of the faces, beside
   * a picture of each in `image`.
   */
  embeds?: Tensor
  /** Those of the unconditional prediction, of the same shape. Default: those of a black image, or zeros. */
  negativeEmbeds?: Tensor
  /** How strongly it guides, −10…10. Default: 1. */
  scale?: number
  /** White where the prompt counts. As a tensor: [1, 1, h, w] in 0…1, of any size. Default: everywhere. */
  mask?: ImageInput
  /** The part of the steps in which it guides, as fractions 0…1. Default: 0 to 1, all steps. */
  start?: number
  end?: number
}

/** ImagePromptOptions with all defaults filled in. */
export interface ImagePromptRequest extends Guiding {
  adapter: number
  /** Empty where embeddings alone are given. */
  images: ImageInput[]
  embeds?: Tensor
  negativeEmbeds?: Tensor
  mask?: ImageInput
}

/** What the checks must know about an IP-Adapter. */
export interface IpAdapterFacts {
  path: string
  /** Of the embeddings that it takes. */
  width: number
  /** Whether it takes the hidden states of an image encoder. */
  hidden: boolean
  /** Whether images can be encoded for it. */
  encodes: boolean
  /** Whether it takes the embeddings of faces. */
  face: boolean
  /** Whether it takes the embeddings of faces, and a picture of each. */
  facePicture: boolean
}

const keys = [
  'adapter',
  'image',
  'embeds',
  'negativeEmbeds',
  'scale',
  'mask',
  'start',
  'end',
] as const satisfies (keyof ImagePromptOptions)[]

/** Every image adds tokens to all cross-attentions; more than these are a mistake. */
const MAX_PROMPTS = 16
const MAX_IMAGES = 64
/** Tokens of an embedding: ten times those of the largest image encoder. */
const MAX_TOKENS = 4096

export function checkImagePrompts(value: unknown, adapters: readonly IpAdapterFacts[]): ImagePromptRequest[] {
  if (value === undefined) return []
  const list = checkList(value, 'imagePrompts', MAX_PROMPTS)
  if (adapters.length === 0 && list.length > 0)
    throw new TypeError('Expected a pipeline loaded with ipAdapters, as imagePrompts was given')
  return list.map((one, i) => checkPrompt(one, `imagePrompts[${i}]`, adapters))
}

function checkPrompt(value: unknown, path: string, adapters: readonly IpAdapterFacts[]): ImagePromptRequest {
  const given = checkObject(value, path, keys)
  const adapter =
    given.adapter === undefined ? 0 : checkInteger(given.adapter, `${path}.adapter`, 0, adapters.length - 1)
  const facts = adapters[adapter]
  const guiding = checkGuiding(given, path)
  if (facts.facePicture) checkBoth(given, path, facts)
  else if ((given.image === undefined) === (given.embeds === undefined))
    throw new TypeError(
      `Expected either ${path}.image or ${path}.embeds but received ${given.image === undefined ? 'neither' : 'both'}`,
    )
  if (given.negativeEmbeds !== undefined && given.embeds === undefined)
    throw new TypeError(`Expected ${path}.embeds, as ${path}.negativeEmbeds was given`)
  const images = given.image === undefined ? [] : checkImages(given.image, `${path}.image`, path, facts)
  const embeds = checkEmbeds(given, path, facts)
  if (facts.facePicture && countImages(images) !== embeds.embeds?.shape[0])
    throw new RangeError(
      `Expected as many pictures in ${path}.image as embeddings in ${path}.embeds but received ` +
        `${countImages(images)} and ${embeds.embeds?.shape[0]}`,
    )
  return {
    adapter,
    images,
    ...embeds,
    ...guiding,
    ...(given.mask !== undefined && { mask: copyImage(given.mask, `${path}.mask`) }),
  }
}

/** FaceID Plus takes the embedding of a face and its picture. */
function checkBoth(given: { image?: unknown; embeds?: unknown }, path: string, facts: IpAdapterFacts): void {
  for (const key of ['image', 'embeds'] as const)
    if (given[key] === undefined)
      throw new TypeError(
        `Expected ${path}.${key}, as ${facts.path} takes the embedding of a face and its picture`,
      )
  if (!facts.encodes)
    throw new TypeError(
      `Expected a pipeline loaded with an imageEncoder for ${path}, as ${facts.path} takes pictures of faces`,
    )
}

/** A tensor counts as one image for each of its first dimension. */
export function countImages(images: readonly ImageInput[]): number {
  return images.reduce<number>(
    (sum, image) => sum + (typeof image === 'object' && 'shape' in image ? image.shape[0] : 1),
    0,
  )
}

function checkImages(value: unknown, name: string, path: string, facts: IpAdapterFacts): ImageInput[] {
  if (!facts.encodes) {
    const why = facts.face ? 'takes the embeddings of faces' : 'has no image encoder (imageEncoder of load())'
    throw new TypeError(`Expected ${path}.embeds in place of ${name}, as ${facts.path} ${why}`)
  }
  if (!isArray(value)) return [copyImage(value, name)]
  if (value.length === 0 || value.length > MAX_IMAGES)
    throw new RangeError(
      `Expected between 1 and ${MAX_IMAGES} images for ${name} but received ${value.length}`,
    )
  return Array.from(value, (one: unknown, i) => copyImage(one, `${name}[${i}]`))
}

function checkEmbeds(
  given: Record<'embeds' | 'negativeEmbeds', unknown>,
  path: string,
  { hidden, width }: IpAdapterFacts,
): Pick<ImagePromptRequest, 'embeds' | 'negativeEmbeds'> {
  if (given.embeds === undefined) return {}
  const embeds = copyTensor(given.embeds, `${path}.embeds`, hidden ? [-1, -1, width] : [-1, width])
  const [images, tokens] = embeds.shape
  if (images > MAX_IMAGES || (hidden && tokens > MAX_TOKENS))
    throw new RangeError(
      `Expected at most ${MAX_IMAGES} images of ${MAX_TOKENS} tokens for ${path}.embeds but received [${embeds.shape.join(', ')}]`,
    )
  if (given.negativeEmbeds === undefined) return { embeds }
  return { embeds, negativeEmbeds: copyTensor(given.negativeEmbeds, `${path}.negativeEmbeds`, embeds.shape) }
}

/** For the metadata: what each image was taken for. */
export function imagePromptSettings(
  prompts: readonly ImagePromptRequest[],
  names: readonly string[],
): Record<string, string> {
  return Object.fromEntries(
    prompts.map(({ adapter, scale, start, end }, i) => [
      `IP-Adapter ${i}`,
      `Model: ${names[adapter]}, Weight: ${scale}` +
        (start > 0 || end < 1 ? `, Guidance Start: ${start}, Guidance End: ${end}` : ''),
    ]),
  )
}
