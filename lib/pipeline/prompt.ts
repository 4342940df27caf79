import { applyWeights, chunkPrompt, padChunks, type PromptChunks } from '../prompt/prompt.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import type { TimeSlice } from '../time-slice.js'
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

/** Tokenizes all prompts of a run with each tokenizer. A text that occurs several times is tokenized once. */
export async function tokenizePrompts(
  tokenizers: readonly Tokenizer[],
  request: GenerateRequest,
  slice: TimeSlice,
): Promise<TokenizedRun> {
  const { weighting } = request
  const encoders: TokenizedPrompts[] = []
  for (const tokenizer of tokenizers) {
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
    encoders.push({
      prompts: await chunkAll(request.prompts),
      negativePrompts: isGuided(request) ? await chunkAll(request.negativePrompts) : [],
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
  slice: TimeSlice,
): Promise<Conditioning> {
  const contexts: Tensor[] = []
  for (const [i, textEncoder] of textEncoders.entries()) {
    const { prompts, negativePrompts } = encoders[i]
    const parts = [
      ...(negativePrompts.length > 0 ? await encodeAll(textEncoder, negativePrompts, options, slice) : []),
      ...(await encodeAll(textEncoder, prompts, { ...options, clipSkip }, slice)),
    ]
    contexts.push(await joinRows(parts, batchSize, slice))
  }
  return { context: concatWidths(contexts) }
}

/**
 * Hidden states [1, length, width] of each prompt. A chunk that occurs several times is encoded once: a prompt can have
 * more than a hundred, and the negative prompt is padded to as many.
 */
async function encodeAll(
  textEncoder: TextEncoder,
  list: PromptChunks[],
  options: CallOptions & { clipSkip?: number },
  slice: TimeSlice,
): Promise<Tensor[]> {
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
  const states = await textEncoder.encode(concatIds(distinct), options)
  const known = new Map<string, Tensor>()
  const contexts: Tensor[] = []
  for (const { at, weights } of prompts) {
    const key = `${at.join()};${weights.join()}`
    if (!known.has(key)) {
      known.set(key, await applyWeights(stack(at.map((place) => rows(states, place))), weights, slice))
    }
    contexts.push(known.get(key)!)
  }
  return contexts
}

function concatIds(list: readonly Int32Array[]): Int32Array {
  const ids = new Int32Array(list.reduce((sum, { length }) => sum + length, 0))
  let at = 0
  for (const part of list) {
    ids.set(part, at)
    at += part.length
  }
  return ids
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
