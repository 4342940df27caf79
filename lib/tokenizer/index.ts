export { applyWeights } from './emphasis.js'
export {
  chunkPrompt,
  equalizeChunks,
  padChunks,
  parsePrompt,
  type PromptChunks,
  type PromptPart,
} from './prompt.js'
export { Tokenizer } from './tokenizer.js'
