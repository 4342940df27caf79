import { shorten } from '../quote.js'
import { closest } from '../spelling.js'
import type { TimeSlice } from '../time-slice.js'

/** Words, numbers and pictographs, but not weights such as `:1.3`. */
const WORDS = /\p{L}+|(?<![:.\d])\p{N}+(?![.\d])|\p{Extended_Pictographic}/gu

/**
 * The first `limit` words of `texts` that are not among `known`, each once, in quotes, with the likely spelling where
 * there is one.
 */
export async function unknownWords(
  known: ReadonlySet<string>,
  texts: readonly string[],
  limit: number,
  slice: TimeSlice,
): Promise<string[]> {
  const unknown = new Set<string>()
  for (const text of texts) {
    if (unknown.size === limit) break
    await slice.pause()
    for (const [word] of text.toLowerCase().matchAll(WORDS)) {
      if (unknown.size === limit) break
      if (!known.has(word)) unknown.add(word)
    }
  }
  return [...unknown].map((word) => {
    // Short words are always close to some other word.
    const near = word.length < 4 ? undefined : closest(word, known)
    return `"${shorten(word)}"` + (near === undefined ? '' : ` (${near}?)`)
  })
}
