/**
 * Syntax of other programs that means something else than words there: AUTOMATIC1111 (github.com/AUTOMATIC1111/
 * stable-diffusion-webui, "Features").
 */

/** `<hypernet:name:1>`; `[from:to:when]`; `[a|b]`; `AND` between prompts. */
const PATTERNS = [
  /<hypernet:[^<>]{1,200}>/gi,
  /(?<!\\)\[[^[\]]{0,200}:\s*[\d.]+\s*\]/g,
  /(?<!\\)\[[^[\]|]{1,200}(?:\|[^[\]|]{1,200}){1,20}\]/g,
  /\bAND\b/g,
]

/** The first `limit` different pieces of such syntax in a prompt, as they are written there. */
export function otherSyntax(prompt: string, limit: number): string[] {
  return matches(PATTERNS, prompt, limit)
}

/** LoRAs in prompts of a model that was loaded without a folder of them, and in negative prompts. */
const LORAS = [/<(?:lora|lyco|lycoris):[^<>]{1,200}>/gi]

/** The first `limit` different names of LoRAs in a prompt, as they are written there. */
export function loraNames(prompt: string, limit: number): string[] {
  return matches(LORAS, prompt, limit)
}

/** Embeddings: ComfyUI's `embedding:name`, and `<name>`, as diffusers' scripts call them. */
const EMBEDDINGS = [/\bembedding:[^\s,:()[\]]{1,200}/gi, /<[^\s<>:|/]{1,200}>/g]

/** The first `limit` different names of embeddings in a prompt, as they are written there. */
export function embeddingNames(prompt: string, limit: number): string[] {
  return matches(EMBEDDINGS, prompt, limit)
}

function matches(patterns: readonly RegExp[], prompt: string, limit: number): string[] {
  const found = new Set<string>()
  for (const pattern of patterns) {
    for (const [piece] of prompt.matchAll(pattern)) {
      if (found.size === limit) return [...found]
      found.add(piece)
    }
  }
  return [...found]
}
