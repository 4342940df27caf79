import type { CheckedVocabulary } from './vocabulary.js'

/** The words of a text: special tokens, English contractions, letters, single digits, other characters. */
const WORDS =
  "<\\|startoftext\\|>|<\\|endoftext\\|>|'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+"

/**
 * A CLIP tokenizer as a tokenizer.json for `@huggingface/tokenizers`, set up as in transformers' CLIPTokenizer. It has the
 * special and the trained tokens; other tokens and merges follow in slices (bpe.ts).
 */
export function clipTokenizerJson({
  vocab,
  added = [],
}: Pick<CheckedVocabulary, 'vocab'> & Partial<CheckedVocabulary>): object {
  const special = (content: string): object => ({
    id: vocab.get(content),
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  })
  return {
    version: '1.0',
    added_tokens: [
      special('<|startoftext|>'),
      special('<|endoftext|>'),
      ...added.map(({ content, id, normalized = true, lstrip = false, rstrip = false }) => ({
        ...{ id, content, normalized, lstrip, rstrip },
        ...{ single_word: false, special: false },
      })),
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: WORDS }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<|endoftext|>',
      continuing_subword_prefix: '',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      byte_fallback: false,
      vocab: { '<|endoftext|>': vocab.get('<|endoftext|>') },
      merges: [],
    },
  }
}
