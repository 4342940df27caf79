import { findLoras, type LoraSetting } from '../adapters/index.js'
import type { GenerateRequest } from '../options/index.js'
import { takeLoras } from '../prompt/lora-syntax.js'

/**
 * The LoRAs that the prompts of a run name, and the run without these names.
 *
 * @param folder where the files are; without one, names are left as they are
 * @throws {RangeError} the prompts, which share a batch, name different ones; or a scale is no number
 * @throws {DiffusionError} MODEL_NOT_FOUND: there is no such file
 */
export async function takePromptLoras(
  request: GenerateRequest,
  folder: string | undefined,
): Promise<{ request: GenerateRequest; loras: LoraSetting[] }> {
  if (folder === undefined || !request.weighting) return { request, loras: [] }
  const first = request.prompts.map(takeLoras)
  const second = request.prompts2?.map(takeLoras)
  const all = first.map(({ loras }, i) => [...loras, ...(second?.[i].loras ?? [])])
  const other = all.findIndex((loras) => JSON.stringify(loras) !== JSON.stringify(all[0]))
  if (other !== -1)
    throw new RangeError(
      `Expected the same LoRAs in all prompts of a call but prompt ${other + 1} has others than the first`,
    )
  const taken = {
    ...request,
    prompts: first.map(({ text }) => text),
    ...(second && { prompts2: second.map(({ text }) => text) }),
    givenPrompts: request.prompts,
  }
  return { request: taken, loras: await findLoras(folder, all[0] ?? []) }
}
