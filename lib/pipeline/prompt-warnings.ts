/** Warnings about what a prompt says. */
import type { GenerateRequest } from '../options/index.js'
import { embeddingNames, loraNames, otherSyntax } from '../prompt/other-syntax.js'
import type { Tokenizer } from '../prompt/tokenizer.js'
import { printable, shorten } from '../quote.js'
import type { TimeSlice } from '../time-slice.js'
import type { Parts } from './parts.js'
import { unknownWords } from './unknown-words.js'

/** Maximum number of words in a warning. */
const MAX_LISTED = 10

/** Warns of words and syntax that the model does not understand. */
export async function promptWarnings(
  { tokenizers, trainedWords, loraFolder }: Parts,
  { prompts, negativePrompts, weighting }: GenerateRequest,
  slice: TimeSlice,
): Promise<string[]> {
  const texts = [...new Set([...prompts, ...negativePrompts])]
  const warnings: string[] = []
  const list = (words: string[]) => words.map((word) => printable(shorten(word))).join(', ')
  const unspellable = await unspellableWords(tokenizers, texts, slice)
  if (unspellable.length > 0)
    warnings.push(`The model's vocabulary cannot represent ${list(unspellable)}: the prompt ends there`)
  const plain = texts.map((text) => tokenizers[0].withoutEmbeddings(text))
  const unknown = trainedWords ? await unknownWords(trainedWords, plain, MAX_LISTED, slice) : []
  if (unknown.length > 0)
    warnings.push(`The model was not trained on ${unknown.join(', ')}: the result is a guess`)
  const missing = await piecesOf(embeddingNames, plain, slice)
  if (missing.length > 0)
    warnings.push(`The prompt has ${list(missing)}, but no such embedding was loaded: these are plain words`)
  const loras = weighting ? await piecesOf(loraNames, texts, slice) : []
  if (loras.length > 0)
    warnings.push(
      loraFolder === undefined
        ? `The prompt has ${list(loras)}: these are plain words, as load() was not given a loraFolder`
        : `The negative prompt has ${list(loras)}: these are plain words, as LoRAs belong into the prompt`,
    )
  const syntax = weighting ? await piecesOf(otherSyntax, texts, slice) : []
  if (syntax.length > 0)
    warnings.push(
      `The prompt has ${list(syntax)}, which other programs understand: here these are plain words`,
    )
  return warnings
}

async function unspellableWords(
  tokenizers: readonly Tokenizer[],
  texts: readonly string[],
  slice: TimeSlice,
): Promise<string[]> {
  const found = new Set<string>()
  for (const tokenizer of tokenizers.filter(({ complete }) => !complete)) {
    for (const text of texts) {
      for (const word of text.split(/\s+/)) {
        if (found.size === MAX_LISTED) return [...found]
        if (tokenizer.unknownWords(word).length > 0) found.add(word)
        await slice.pause()
      }
    }
  }
  return [...found]
}

async function piecesOf(
  find: (text: string, limit: number) => string[],
  texts: readonly string[],
  slice: TimeSlice,
): Promise<string[]> {
  const found = new Set<string>()
  for (const text of texts) {
    if (found.size >= MAX_LISTED) break
    for (const piece of find(text, MAX_LISTED)) found.add(piece)
    await slice.pause()
  }
  return [...found].slice(0, MAX_LISTED)
}
