import { DiffusionError } from '../errors.js'
import { quote } from '../quote.js'
import type { Placement } from '../device/index.js'
import type { Embedding } from '../adapters/index.js'
import type { TextEncoderDescription } from '../models/index.js'
import type { NamedEmbedding } from '../prompt/embedding-names.js'
import { Tokenizer } from '../prompt/tokenizer.js'
import { TextEncoder } from './text-encoder.js'
import { fill } from './tensors.js'

/** A tokenizer for each text encoder. If there is none, CLIP's tokenizer defines the length of a chunk. */
export async function loadTokenizers(
  path: string,
  descriptions: readonly TextEncoderDescription[],
  embeddings: readonly Embedding[] = [],
): Promise<Tokenizer[]> {
  const tokenizers: Tokenizer[] = []
  for (const { tokenizer, config } of descriptions) {
    const created = await Tokenizer.create(tokenizer, config.maxPositions).catch((error: unknown) => {
      if (!(error instanceof DiffusionError)) throw error
      throw new DiffusionError(error.code, `${path}: ${error.message}`, { cause: error })
    })
    const { id, token } = created.last
    if (id >= config.vocabSize) {
      throw new DiffusionError(
        'MODEL_FORMAT',
        `${path}: expected ids below ${config.vocabSize}, the size of the text encoder's vocabulary, ` +
          `but the token ${quote(token, 60)} has the id ${id}`,
      )
    }
    tokenizers.push(created.withEmbeddings(numberVectors(embeddings, config.vocabSize)))
  }
  return tokenizers.length > 0 ? tokenizers : [await Tokenizer.create(null)]
}

/** The vectors of all embeddings have the ids after the vocabulary. */
function numberVectors(embeddings: readonly Embedding[], vocabSize: number): NamedEmbedding[] {
  let next = vocabSize
  return embeddings.map(({ names, count }) => ({ names, ids: Array.from({ length: count }, () => next++) }))
}

/** The vectors of all embeddings for one text encoder, [n, width]. */
function joinVectors(embeddings: readonly Embedding[], encoder: number): Float32Array {
  const parts = embeddings.map(({ vectors }) => vectors[encoder])
  return fill(new Float32Array(parts.reduce((sum, { length }) => sum + length, 0)), parts)
}

/** The text encoders, one after the other; `keep` is called with each as soon as it is loaded. */
export async function loadTextEncoders(
  descriptions: readonly TextEncoderDescription[],
  tokenizers: readonly Tokenizer[],
  embeddings: readonly Embedding[],
  placement: Placement,
  signal: AbortSignal | undefined,
  keep: (loaded: TextEncoder) => TextEncoder,
): Promise<TextEncoder[]> {
  const textEncoders: TextEncoder[] = []
  for (const [i, description] of descriptions.entries()) {
    const vectors = joinVectors(embeddings, i)
    textEncoders.push(
      keep(await TextEncoder.load(description, tokenizers[i], placement, { signal, vectors })),
    )
  }
  return textEncoders
}
