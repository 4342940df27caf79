import { applyWeights, chunkPrompt, padChunks, type PromptChunks } from '../prompt/prompt.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { TimeSlice } from '../time-slice.js'
import type { Tensor } from '../types.js'
import type { CallOptions } from './component.js'
import type { Conditioning } from './conditioning.js'
import type { Parts } from './parts.js'
import { timeCondition } from './precondition.js'
import { concatWidths, fill, rows, stack, zeros } from './tensors.js'
import type { TextEncodeOptions, TextEncoder } from './text-encoder.js'
import { timeIds } from './time-ids.js'
import type { GenerateRequest } from '../options/index.js'

/**
 * Prompts as the tokens of one text encoder. All prompts of a run have the same number of chunks, because they share a
 * batch.
 */
export interface TokenizedPrompts {
  prompts: PromptChunks[]
  negativePrompts: PromptChunks[]
}

/** The prompts of a run as the tokens of each text encoder, padded to one length. */
export interface TokenizedRun {
  encoders: TokenizedPrompts[]
  /** Positions of the context: chunks × the tokenizers' length. */
  length: number
}

/**
 * Tokenizes all prompts of a run with each tokenizer. A text that occurs several times is tokenized once. As in diffusers,
 * the only text encoder of SDXL's refiner takes the first prompt.
 */
export async function tokenizePrompts(
  tokenizers: readonly Tokenizer[],
  request: GenerateRequest,
  slice: TimeSlice,
): Promise<TokenizedRun> {
  const { weighting, prompts2, negativePrompts2 } = request
  const encoders: TokenizedPrompts[] = []
  for (const [i, tokenizer] of tokenizers.entries()) {
    const known = new Map<string, PromptChunks>()
    const chunkAll = async (texts: string[]) => {
      const list: PromptChunks[] = []
      for (const text of texts) {
        const chunks = known.get(text) ?? (await chunkPrompt(tokenizer, text, { weighting, slice }))
        known.set(text, chunks)
        list.push(chunks)
      }
      return list
    }
    const negative = (i > 0 ? negativePrompts2 : undefined) ?? request.negativePrompts
    encoders.push({
      prompts: await chunkAll((i > 0 ? prompts2 : undefined) ?? request.prompts),
      negativePrompts: isGuided(request) ? await chunkAll(negative) : [],
    })
  }
  const all = encoders.flatMap(({ prompts, negativePrompts }) => [...prompts, ...negativePrompts])
  const chunks = Math.max(...all.map((prompt) => prompt.chunks))
  return {
    encoders: encoders.map(({ prompts, negativePrompts }, i) => {
      const pad = (list: PromptChunks[]) => list.map((prompt) => padChunks(tokenizers[i], prompt, chunks))
      return { prompts: pad(prompts), negativePrompts: pad(negativePrompts) }
    }),
    length: chunks * tokenizers[0].maxLength,
  }
}

/**
 * Guidance needs the unconditional prediction only above 1 (Ho & Salimans 2022), and never where the guidance scale is
 * an input of the UNet.
 */
export function isGuided({
  guidanceScale,
  embedsGuidance,
}: Pick<GenerateRequest, 'guidanceScale' | 'embedsGuidance'>): boolean {
  return guidanceScale > 1 && !embedsGuidance
}

/** Rows of one image in the batch of a prediction: InstructPix2Pix predicts also with the image alone. */
export function rowsPerImage(
  request: Pick<GenerateRequest, 'guidanceScale' | 'embedsGuidance' | 'extraInput'>,
): 1 | 2 | 3 {
  if (!isGuided(request)) return 1
  return request.extraInput === 'image' ? 3 : 2
}

/** What the conditioning is made by. */
type PromptParts = Pick<Parts, 'textEncoders' | 'tokenizers' | 'unet' | 'timeIdCount' | 'zeroesEmptyNegative'>

/** What the UNet takes of a prompt: the context of each, [1, length, width], and of SDXL its pooled output, [1, width]. */
interface EncodedPrompts {
  contexts: Tensor[]
  pooled?: Tensor[]
}

/**
 * The conditioning of all images of a run. With guidance its batch has twice as many rows, the unconditional half first.
 *
 * As in diffusers, clipSkip does not apply to the negative prompt.
 */
export async function encodePrompts(
  parts: PromptParts,
  { encoders }: TokenizedRun,
  request: GenerateRequest,
  options: CallOptions,
  slice: TimeSlice,
): Promise<Conditioning> {
  const { clipSkip } = request
  const lists = (of: keyof TokenizedPrompts) => encoders.map((encoder) => encoder[of])
  const conditional = await encodeAll(parts, lists('prompts'), { ...options, clipSkip }, slice)
  if (!isGuided(request)) return conditioningOf(parts, request, [conditional], slice)
  // As diffusers' force_zeros_for_empty_prompt: only where no negative prompt was given.
  const unconditional =
    parts.zeroesEmptyNegative && !request.negativeGiven
      ? zeroed(conditional)
      : await encodeAll(parts, lists('negativePrompts'), options, slice)
  return conditioningOf(parts, request, [unconditional, conditional], slice)
}

/** Makes the conditioning of all images from encoded prompts; with guidance, of the unconditional half first. */
async function conditioningOf(
  { unet, timeIdCount }: Pick<PromptParts, 'unet' | 'timeIdCount'>,
  request: GenerateRequest,
  halves: EncodedPrompts[],
  slice: TimeSlice,
): Promise<Conditioning> {
  const { batchSize, count, guidanceScale, extraInput, noiseLevel } = request
  const { guidanceWidth, kBlocks } = unet.config
  const pooled = halves.flatMap((half) => half.pooled ?? [])
  const pooledRows = pooled.length > 0 ? await joinRows(pooled, batchSize, slice) : undefined
  const ids = (half: number) => timeIds(request, timeIdCount!, half < halves.length - 1, count)
  return {
    context: await joinRows(
      halves.flatMap(({ contexts }) => contexts),
      batchSize,
      slice,
    ),
    ...(pooledRows &&
      (kBlocks
        ? { timestepCond: timeCondition(pooledRows, kBlocks.conditionWidth) }
        : { pooled: pooledRows })),
    ...(timeIdCount && { timeIds: stack(halves.map((_, half) => ids(half))) }),
    ...(guidanceWidth !== undefined && {
      guidance: filled(count, guidanceScale),
    }),
    ...(extraInput === 'small-image' && { classes: filled(halves.length * count, noiseLevel) }),
  }
}

function filled(n: number, value: number): Tensor {
  return { data: new Float32Array(n).fill(value), shape: [n, 1] }
}

function zeroed({ contexts, pooled }: EncodedPrompts): EncodedPrompts {
  const zero = ({ shape }: Tensor) => zeros(shape)
  return { contexts: contexts.map(zero), ...(pooled && { pooled: pooled.map(zero) }) }
}

/**
 * The context joins the hidden states of all text encoders along their width; the pooled output is the last one's.
 *
 * @param lists the prompts as the tokens of each text encoder
 */
async function encodeAll(
  { textEncoders, unet }: Pick<PromptParts, 'textEncoders' | 'unet'>,
  lists: readonly PromptChunks[][],
  options: TextEncodeOptions,
  slice: TimeSlice,
): Promise<EncodedPrompts> {
  const encoded: EncodedPrompts[] = []
  for (const [i, textEncoder] of textEncoders.entries()) {
    const { added, kBlocks } = unet.config
    const pools = (added !== undefined && textEncoder.pools) || kBlocks !== undefined
    encoded.push(await encodeList(textEncoder, lists[i], options, pools, slice))
  }
  const contexts = lists[0].map((_, row) => concatWidths(encoded.map((one) => one.contexts[row])))
  const { pooled } = encoded.findLast((one) => one.pooled) ?? {}
  return { contexts, ...(pooled && { pooled }) }
}

/**
 * The hidden states of each prompt and, if `pools`, the pooled output of its first chunk, as in web UIs. A chunk that
 * occurs several times is encoded once: a prompt can have more than a hundred, and the negative prompt is padded to as
 * many.
 */
async function encodeList(
  textEncoder: TextEncoder,
  list: PromptChunks[],
  options: TextEncodeOptions,
  pools: boolean,
  slice: TimeSlice,
): Promise<EncodedPrompts> {
  const { length } = textEncoder
  const places = new Map<string, number>()
  const distinct: Int32Array[] = []
  const prompts: { at: number[]; weights: Float32Array }[] = []
  for (const { tokens, weights, chunks } of list) {
    const at = Array.from({ length: chunks }, (_, chunk) => {
      const ids = tokens.subarray(chunk * length, (chunk + 1) * length)
      const key = ids.join()
      const place = places.get(key) ?? distinct.push(ids) - 1
      places.set(key, place)
      return place
    })
    prompts.push({ at, weights })
    await slice.pause()
  }
  const ids = concatIds(distinct)
  const { hidden, pooled } = pools
    ? await textEncoder.encodePooled(ids, options)
    : { hidden: await textEncoder.encode(ids, options), pooled: undefined }
  const known = new Map<string, Tensor>()
  const contexts: Tensor[] = []
  for (const { at, weights } of prompts) {
    const key = `${at.join()};${weights.join()}`
    if (!known.has(key)) {
      known.set(key, await applyWeights(stack(at.map((place) => rows(hidden, place))), weights, slice))
    }
    contexts.push(known.get(key)!)
  }
  return { contexts, ...(pooled && { pooled: prompts.map(({ at }) => rows(pooled, at[0])) }) }
}

function concatIds(list: readonly Int32Array[]): Int32Array {
  return fill(new Int32Array(list.reduce((sum, { length }) => sum + length, 0)), list)
}

/** Stacks tensors [1, …], each of them `times` times in succession. */
async function joinRows(parts: readonly Tensor[], times: number, slice: TimeSlice): Promise<Tensor> {
  if (parts.length === 1 && times === 1) return parts[0]
  const [{ data, shape }] = parts
  const out = zeros([parts.length * times, ...shape.slice(1)])
  for (let row = 0; row < parts.length * times; row++) {
    out.data.set(parts[Math.floor(row / times)].data, row * data.length)
    await slice.pause()
  }
  return out
}

/**
 * The conditioning from prompt embeddings. Without negative ones, the empty prompt takes their place, or zeros if there
 * is no empty prompt of that length, or if the model takes zeros for it.
 */
export async function conditioningFromEmbeds(
  parts: PromptParts,
  request: GenerateRequest,
  options: CallOptions,
  slice: TimeSlice,
): Promise<Conditioning> {
  const given = (context: Tensor, pooled: Tensor | undefined): EncodedPrompts => ({
    contexts: listRows(context),
    ...(pooled && { pooled: listRows(pooled) }),
  })
  const conditional = given(request.promptEmbeds!, request.pooledPromptEmbeds)
  if (!isGuided(request)) return conditioningOf(parts, request, [conditional], slice)
  const [n, length] = request.promptEmbeds!.shape
  let negative: EncodedPrompts | undefined
  if (request.negativePromptEmbeds)
    negative = given(request.negativePromptEmbeds, request.negativePooledPromptEmbeds)
  else if (!parts.zeroesEmptyNegative) negative = await encodeEmptyPrompt(parts, length, options, slice)
  const { contexts, pooled } = negative ?? zeroed(conditional)
  const repeated = (list: Tensor[]) => (list.length === 1 ? new Array<Tensor>(n).fill(list[0]) : list)
  const unconditional = { contexts: repeated(contexts), ...(pooled && { pooled: repeated(pooled) }) }
  return conditioningOf(parts, request, [unconditional, conditional], slice)
}

function listRows(tensor: Tensor): Tensor[] {
  return Array.from({ length: tensor.shape[0] }, (_, i) => rows(tensor, i))
}

/** '' with `length` positions; undefined without text encoders, or if `length` is not a multiple of a chunk. */
async function encodeEmptyPrompt(
  parts: PromptParts,
  length: number,
  options: CallOptions,
  slice: TimeSlice,
): Promise<EncodedPrompts | undefined> {
  const { textEncoders, tokenizers } = parts
  const chunkLength = tokenizers[0].maxLength
  if (textEncoders.length === 0 || length % chunkLength !== 0) return undefined
  const lists: PromptChunks[][] = []
  for (const tokenizer of tokenizers)
    lists.push([padChunks(tokenizer, await chunkPrompt(tokenizer, '', { slice }), length / chunkLength)])
  return encodeAll(parts, lists, options, slice)
}
