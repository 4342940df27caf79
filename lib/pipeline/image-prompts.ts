/** The image prompts of one run: what IP-Adapters make of them, which stays in the engine. */
import { maskTensor, openImage, type ImageSize } from '../image/index.js'
import { maskLevels } from '../image/mask-levels.js'
import { native, type ImagePromptSizes, type KeptTensors, type NativeImagePrompt } from '../native.js'
import { countImages, guidesAt, type GenerateRequest, type ImagePromptRequest } from '../options/index.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import type { ConditionalRows } from './controls.js'
import type { IpAdapter } from './ip-adapter.js'
import { isGuided } from './prompt.js'
import { stack, zeros } from './tensors.js'

/** The size of the latents. */
interface LatentSize {
  h: number
  w: number
}

interface ImagePrompt extends ImagePromptRequest {
  kept: KeptTensors
}

export class ImagePrompts {
  readonly #prompts: ImagePrompt[]

  private constructor(prompts: ImagePrompt[]) {
    this.#prompts = prompts
  }

  /** Encodes the images of request.imagePrompts. */
  static async start(
    adapters: readonly IpAdapter[],
    request: GenerateRequest,
    latents: LatentSize,
    signal: AbortSignal,
    slice: TimeSlice,
  ): Promise<ImagePrompts> {
    const run = new ImagePrompts(
      request.imagePrompts.map((prompt) => ({ ...prompt, kept: new (native().KeptTensors)() })),
    )
    try {
      for (const [i, prompt] of run.#prompts.entries()) {
        const adapter = adapters[prompt.adapter]
        const { width, height } = request
        const mask = await maskOf(prompt, `imagePrompts[${i}].mask`, { width, height }, signal, slice)
        const levels = adapter.config.unet.blockChannels.length
        const embeddings = await embeddingsOf(adapter, prompt, isGuided(request), signal)
        const faces = facesOf(adapter, prompt, isGuided(request))
        const [count, images, ...rest] = embeddings.shape
        await slice.pause()
        await adapter.encode(
          {
            embeddings: embeddings.data,
            ...(faces && { faces: faces.data }),
            ...{ count, images, rows: rest.length > 1 ? rest[0] : 1 },
            ...(mask && { ...latents, masks: maskLevels(mask, latents.h, latents.w, levels) }),
            to: prompt.kept,
          },
          { signal },
        )
      }
      // They are not needed again before the next run.
      for (const { imageEncoder } of adapters) await imageEncoder?.trim()
      return run
    } catch (error) {
      await run.dispose()
      throw error
    }
  }

  /** Names the prompts that guide UNet call `index` of `count`; '' for none. */
  active(index: number, count: number): string {
    return this.#activeAt(index, count)
      .map((prompt) => this.#prompts.indexOf(prompt))
      .join()
  }

  /** What a prediction for `n` rows attends to; undefined: nothing. */
  forCall(
    n: number,
    { first, count }: ConditionalRows,
    [index, steps]: readonly [number, number],
  ): NativeImagePrompt[] | undefined {
    const active = this.#activeAt(index, steps)
    if (active.length === 0) return undefined
    const rows = Int32Array.from({ length: n }, (_, row) => (row >= first && row < first + count ? 0 : 1))
    return active.map(({ kept, scale }) => ({ kept, rows, scale }))
  }

  /** A scale of 0 leaves out a prompt altogether. */
  #activeAt(index: number, count: number): ImagePrompt[] {
    return this.#prompts.filter((prompt) => prompt.scale !== 0 && guidesAt(prompt, index, count))
  }

  async dispose(): Promise<void> {
    await Promise.all(this.#prompts.map(async ({ kept }) => kept.dispose()))
  }
}

/** The embeddings of a prompt, [count, images, …]: the conditional one first, and with guidance the unconditional one. */
async function embeddingsOf(
  adapter: IpAdapter,
  prompt: ImagePromptRequest,
  guided: boolean,
  signal: AbortSignal,
): Promise<Tensor> {
  const encoder = adapter.imageEncoder
  const hidden = takesHidden(adapter)
  // Of FaceID Plus, the embeddings that were given are those of the faces.
  const { embeds, negativeEmbeds }: Pick<ImagePromptRequest, 'embeds' | 'negativeEmbeds'> = hasFaces(adapter)
    ? {}
    : prompt
  let conditional = embeds
  if (!conditional) {
    const pixels = await encoder!.preprocess(prompt.images, { signal })
    conditional = hidden
      ? await encoder!.hiddenStates(pixels, { signal })
      : await encoder!.encode(pixels, { signal })
  }
  const [count, ...rest] = conditional.shape
  const asPrompt = ({ data }: Tensor): Tensor => ({ data, shape: [1, count, ...rest] })
  if (!guided) return asPrompt(conditional)
  let unconditional = negativeEmbeds ?? zeros(conditional.shape)
  if (hidden && encoder && !negativeEmbeds) {
    const { channels, imageSize } = encoder.config
    const one = await encoder.hiddenStates(zeros([1, channels, imageSize, imageSize]), { signal })
    if (one.shape.slice(1).join() === rest.join())
      unconditional = stack(Array.from({ length: count }, () => one))
  }
  return stack([asPrompt(conditional), asPrompt(unconditional)])
}

const hasFaces = ({ input }: IpAdapter) => input === 'face-picture'
const takesHidden = ({ input }: IpAdapter) => input === 'hidden' || input === 'face-picture'

/** The embeddings of faces, [count, images, width], in the same order; undefined: the adapter takes none beside others. */
function facesOf(
  adapter: IpAdapter,
  { embeds, negativeEmbeds }: ImagePromptRequest,
  guided: boolean,
): Tensor | undefined {
  if (!hasFaces(adapter) || !embeds) return undefined
  return guided ? stack([embeds, negativeEmbeds ?? zeros(embeds.shape)]) : embeds
}

async function maskOf(
  { mask }: ImagePromptRequest,
  path: string,
  size: ImageSize,
  signal: AbortSignal,
  slice: TimeSlice,
): Promise<Tensor | undefined> {
  if (mask === undefined) return undefined
  if (typeof mask === 'object' && 'shape' in mask) {
    const [n, channels] = mask.shape
    if (n === 1 && channels === 1) return mask
    throw new RangeError(`Expected shape [1, 1, h, w] for ${path} but received [${mask.shape.join(', ')}]`)
  }
  return maskTensor(await openImage(mask, path, signal), size, size, slice)
}

/** How many images a prompt has, and the tokens of each one's embedding. */
function embeddingSizes(
  adapter: IpAdapter,
  { images, embeds }: ImagePromptRequest,
): Pick<ImagePromptSizes, 'images' | 'rows'> {
  const hiddenTokens = () => {
    const { imageSize, patchSize } = adapter.imageEncoder!.config
    return 1 + Math.floor(imageSize / patchSize) ** 2
  }
  const given = embeds !== undefined && !hasFaces(adapter)
  const rows = !takesHidden(adapter) ? 1 : given ? embeds.shape[1] : hiddenTokens()
  return { images: embeds ? embeds.shape[0] : countImages(images), rows }
}

/** The tokens that each image prompt adds to cross-attention. */
export function imagePromptLengths(
  adapters: readonly IpAdapter[],
  { imagePrompts }: Pick<GenerateRequest, 'imagePrompts'>,
): number[] {
  return imagePrompts.map((prompt) => {
    const adapter = adapters[prompt.adapter]
    const { images, rows } = embeddingSizes(adapter, prompt)
    return adapter.tokens(images, rows)
  })
}

/** Memory that image prompts take: `kept` during a run, and `start` before it. */
export function imagePromptMemory(
  adapters: readonly IpAdapter[],
  request: Pick<GenerateRequest, 'imagePrompts' | 'guidanceScale' | 'embedsGuidance'>,
  latents: LatentSize,
): { start: number; kept: number } {
  let [start, kept] = [0, 0]
  for (const prompt of request.imagePrompts) {
    const adapter = adapters[prompt.adapter]
    const sizes = {
      count: isGuided(request) ? 2 : 1,
      ...embeddingSizes(adapter, prompt),
      ...(prompt.mask !== undefined && latents),
    }
    const memory = adapter.memory(sizes)
    const embeddings = 8 * sizes.count * sizes.images * sizes.rows * adapter.config.projection.width
    const encoding = prompt.images.length === 0 ? 0 : (adapter.imageEncoder?.workingBytes(sizes.images) ?? 0)
    start = Math.max(start, embeddings + Math.max(memory.working, encoding))
    kept += memory.kept
  }
  return { start, kept }
}
