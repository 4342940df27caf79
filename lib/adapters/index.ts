export { applyLora, unplacedWarning, type AdapterReport, type LoraSetting } from './lora.js'
export { EMBEDDING, readEmbeddings, type Embedding, type EmbeddingSetting } from './embedding.js'
export { findLoras } from './find-loras.js'
