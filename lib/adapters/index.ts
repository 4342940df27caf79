export { applyLora, unplacedWarning, type AdapterReport, type LoraSetting } from './lora.js'
export { EMBEDDING, readEmbeddings, type Embedding, type EmbeddingSetting } from './embedding.js'
export {
  IP_ADAPTER,
  openIpAdapters,
  promptTokens,
  type IpAdapterDescription,
  type IpAdapterInput,
  type IpAdapterSetting,
} from './ip-adapter.js'
export { findLoras } from './find-loras.js'
