import { inSlices } from '../event-loop.js'
import { importOnce } from '../import-once.js'
import { clipTokenizerJson } from './tokenizer-json.js'
import type { CheckedVocabulary } from './vocabulary.js'

/**
 * The part of @huggingface/tokenizers that is used. The declarations of the package import without file extensions, which
 * TypeScript cannot resolve under NodeNext, so that everything in them would be any.
 */
export interface BpeTokenizer {
  token_to_id(token: string): number | undefined
  id_to_token(id: number): string | undefined
  encode(text: string, options: { add_special_tokens: boolean }): { ids: number[] }
  /** Private: package.json names the exact version that has these tables. */
  readonly model: {
    readonly tokens_to_ids: Map<string, number>
    readonly vocab: string[]
    /** Ranks of pairs as JSON. */
    readonly bpe_ranks: Map<string, number>
  }
}
type BpeTokenizerClass = new (tokenizer: object, config: object) => BpeTokenizer

const loadTokenizers = importOnce<{ Tokenizer: BpeTokenizerClass }>(
  '@huggingface/tokenizers',
  () => import('@huggingface/tokenizers'),
)

/** Entries between two points where the work can be interrupted. */
const STRIDE = 256

export interface Bpe {
  tokenizer: BpeTokenizer
  /** The token of the largest id. */
  last: { token: string; id: number }
}

/**
 * Creates the library's tokenizer. Its constructor would fill the tables for CLIP's 49,408 tokens in one piece, which takes
 * 70 ms and more; here they are filled in slices.
 */
export async function createBpe(vocabulary: CheckedVocabulary): Promise<Bpe> {
  const { Tokenizer } = await loadTokenizers()
  const tokenizer = new Tokenizer(clipTokenizerJson(vocabulary), { unk_token: '<|endoftext|>' })
  return inSlices(fill(tokenizer, vocabulary))
}

function* fill(
  tokenizer: BpeTokenizer,
  { vocab, merges, added }: CheckedVocabulary,
): Generator<void, Bpe, void> {
  const { tokens_to_ids, vocab: tokens, bpe_ranks } = tokenizer.model
  let last = { token: '', id: -1 }
  let steps = 0
  for (const [token, id] of vocab) {
    // Trained tokens are there already, and go before those of the vocabulary.
    if (!tokens_to_ids.has(token)) {
      tokens_to_ids.set(token, id)
      tokens[id] = token
    }
    if (id > last.id) last = { token, id }
    if (++steps % STRIDE === 0) yield
  }
  for (const { content, id } of added) if (id > last.id) last = { token: content, id }
  for (const [rank, pair] of merges.entries()) {
    bpe_ranks.set(JSON.stringify(typeof pair === 'string' ? pair.split(' ', 2) : pair), rank)
    if (++steps % STRIDE === 0) yield
  }
  return { tokenizer, last }
}
