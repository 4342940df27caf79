import { applyWeights, chunkPrompt, padChunks, type PromptChunks } from '../prompt/prompt.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { Tensor } from '../types.js'
import type { CallOptions } from './component.js'
import type { Conditioning } from './conditioning.js'
import { broadcastRows, concatWidths, repeatRows, rows, stack, zeros } from './tensors.js'
import type { TextEncoder } from './text-encoder.js'
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

/** Tokenizes all prompts of a run with each tokenizer. */
export function tokenizePrompts(tokenizers: readonly Tokenizer[], request: GenerateRequest): TokenizedRun {
  const { weighting } = request
  const encoders = tokenizers.map((tokenizer) => {
    const chunk = (texts: string[]) => texts.map((text) => chunkPrompt(tokenizer, text, { weighting }))
    return {
      prompts: chunk(request.prompts),
      negativePrompts: isGuided(request) ? chunk(request.negativePrompts) : [],
    }
  })
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

/** Guidance needs the unconditional prediction only above 1 (Ho & Salimans 2022). */
export function isGuided({ guidanceScale }: Pick<GenerateRequest, 'guidanceScale'>): boolean {
  return guidanceScale > 1
}

/**
 * The conditioning of all images of a run. With guidance its batch has twice as many rows, the unconditional half
 * first. The context joins the hidden states of all text encoders along their width.
 *
 * As in diffusers, clipSkip does not apply to the negative prompt.
 */
export async function encodePrompts(
  textEncoders: readonly TextEncoder[],
  { encoders }: TokenizedRun,
  { batchSize, clipSkip }: GenerateRequest,
  options: CallOptions,
): Promise<Conditioning> {
  const contexts: Tensor[] = []
  for (const [i, textEncoder] of textEncoders.entries()) {
    const { prompts, negativePrompts } = encoders[i]
    const conditional = await encodeAll(textEncoder, prompts, { ...options, clipSkip })
    const unconditional =
      negativePrompts.length > 0 ? [await encodeAll(textEncoder, negativePrompts, options)] : []
    contexts.push(stack([...unconditional, conditional].map((context) => repeatRows(context, batchSize))))
  }
  return { context: concatWidths(contexts) }
}

/** Hidden states [n, length, width]. A text that occurs several times is encoded once. */
async function encodeAll(
  textEncoder: TextEncoder,
  list: PromptChunks[],
  options: CallOptions & { clipSkip?: number },
): Promise<Tensor> {
  const known = new Map<string, Tensor>()
  const contexts: Tensor[] = []
  for (const { tokens, weights } of list) {
    const key = `${tokens.join()};${weights.join()}`
    if (!known.has(key)) known.set(key, applyWeights(await textEncoder.encode(tokens, options), weights))
    contexts.push(known.get(key)!)
  }
  return stack(contexts)
}

/**
 * The conditioning from prompt embeddings. Without negative ones, the empty prompt takes their place, or zeros if there
 * is no empty prompt of that length.
 */
export async function conditioningFromEmbeds(
  request: GenerateRequest,
  emptyPrompt: () => Promise<Tensor | undefined>,
): Promise<Conditioning> {
  const { batchSize, promptEmbeds, negativePromptEmbeds } = request
  const conditional = repeatRows(promptEmbeds!, batchSize)
  if (!isGuided(request)) return { context: conditional }
  const [n, length, width] = promptEmbeds!.shape
  const negative = negativePromptEmbeds ?? (await emptyPrompt()) ?? zeros([1, length, width])
  const unconditional = repeatRows(broadcastRows(rows(negative, 0, negative.shape[0]), n), batchSize)
  return { context: stack([unconditional, conditional]) }
}

/**
 * The context of '' [1, length, width]; undefined without text encoders, or if `length` is not a multiple of a chunk.
 */
export async function encodeEmptyPrompt(
  textEncoders: readonly TextEncoder[],
  tokenizers: readonly Tokenizer[],
  length: number,
  options: CallOptions,
): Promise<Tensor | undefined> {
  const chunkLength = tokenizers[0].maxLength
  if (textEncoders.length === 0 || length % chunkLength !== 0) return undefined
  const contexts: Tensor[] = []
  for (const [i, textEncoder] of textEncoders.entries())
    contexts.push(await textEncoder.encode(tokenizers[i].encode(''), options))
  const one = concatWidths(contexts)
  const { data } = stack(new Array<Tensor>(length / chunkLength).fill(one))
  return { data, shape: [1, length, one.shape[2]] }
}
