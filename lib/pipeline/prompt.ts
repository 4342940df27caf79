import { applyWeights, chunkPrompt, padChunks, type PromptChunks } from '../tokenizer/prompt.js'
import type { Tokenizer } from '../tokenizer/tokenizer.js'
import type { Tensor } from '../types.js'
import type { CallOptions } from './component.js'
import { broadcastRows, repeatRows, rows, stack, zeros } from './tensors.js'
import type { TextEncoder } from './text-encoder.js'
import type { GenerateRequest } from '../options.js'

/** Prompts as tokens: all of a run have the same number of chunks, because they share one batch. */
export interface TokenizedPrompts {
  prompts: PromptChunks[]
  negativePrompts: PromptChunks[]
  /** Positions of the context: chunks × the tokenizer's length. */
  length: number
}

/** Tokenizes all prompts of a run and pads them to one length. */
export function tokenizePrompts(tokenizer: Tokenizer, request: GenerateRequest): TokenizedPrompts {
  const { weighting } = request
  const cut = (texts: string[]) => texts.map((text) => chunkPrompt(tokenizer, text, { weighting }))
  const prompts = cut(request.prompts)
  const negativePrompts = isGuided(request) ? cut(request.negativePrompts) : []
  const chunks = Math.max(...[...prompts, ...negativePrompts].map((prompt) => prompt.chunks))
  const pad = (list: PromptChunks[]) => list.map((prompt) => padChunks(tokenizer, prompt, chunks))
  return {
    prompts: pad(prompts),
    negativePrompts: pad(negativePrompts),
    length: chunks * tokenizer.maxLength,
  }
}

/** Guidance needs the unconditional prediction only above 1 (Ho & Salimans 2022). */
export function isGuided({ guidanceScale }: GenerateRequest): boolean {
  return guidanceScale > 1
}

/**
 * What the UNet attends to: [count, length, width], or with guidance [2·count, length, width], unconditional half first.
 *
 * As in diffusers, clipSkip does not apply to the negative prompt.
 */
export async function encodePrompts(
  textEncoder: TextEncoder,
  { prompts, negativePrompts }: TokenizedPrompts,
  { batchSize, clipSkip }: GenerateRequest,
  options: CallOptions,
): Promise<Tensor> {
  const conditional = await encodeAll(textEncoder, prompts, { ...options, clipSkip })
  const unconditional =
    negativePrompts.length > 0 ? [await encodeAll(textEncoder, negativePrompts, options)] : []
  return stack([...unconditional, conditional].map((context) => repeatRows(context, batchSize)))
}

/** [n, length, width]; a text that occurs several times is encoded once. */
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

/** The same from ready-made embeddings; without negative ones, zeros stand for "no condition". */
export function contextFromEmbeds(request: GenerateRequest, emptyPrompt: Tensor | undefined): Tensor {
  const { batchSize, promptEmbeds, negativePromptEmbeds } = request
  const conditional = repeatRows(promptEmbeds!, batchSize)
  if (!isGuided(request)) return conditional
  const [n, length, width] = promptEmbeds!.shape
  const negative = negativePromptEmbeds ?? emptyPrompt ?? zeros([1, length, width])
  return stack([repeatRows(broadcastRows(rows(negative, 0, negative.shape[0]), n), batchSize), conditional])
}
