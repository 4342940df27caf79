import type { ModelSource } from '../native.js'
import { quote } from '../quote.js'
import type { StoredTensor } from './formats/tensor-file.js'

/** Names in a warning. */
const MAX_NAMES = 3

/**
 * What training leaves in files, and parts of the whole that image generation has no use for: averaged weights, the
 * schedule, buffers, CLIP's other half, the estimator of depth, and projections of which a part alone is used.
 */
const EXPECTED = [
  /(^|\.)(position_ids|logit_scale|attn_mask|text_projection(\.weight)?|num_batches_tracked)$/,
  /^(model_ema|loss|first_stage_model\.(loss|model_ema)|vae\.loss|denoiser|noise_augmentor|low_scale_model|depth_model|safety_checker)\./,
  /^(alphas_cumprod(_prev)?|betas|sqrt_.*|log_.*|posterior_.*|lvlb_weights|logvar|global_step|iteration|epoch)$/,
  /^(v_pred|ztsnr|edm_.*|scale_factor)$/,
  /(^|\.)(visual|vision_model)\./,
  /(^|\.)transformer_layes\.\d+\.attn\.in_proj_(weight|bias)$/,
]

/**
 * A warning of tensors that belong to nothing that is loaded; undefined if there are none but expected ones.
 *
 * @param where 'The file', or the folder of a component
 */
export function unusedTensors(
  where: string,
  tensors: Iterable<StoredTensor>,
  sources: readonly ModelSource[],
): string | undefined {
  const place = (file: number, offset: number) => `${file}:${offset}`
  const used = new Set(sources.flatMap(({ tensors }) => tensors.map((t) => place(t.file, t.offset))))
  const names: string[] = []
  let count = 0
  for (const { name, file, offset } of tensors) {
    if (used.has(place(file, offset)) || EXPECTED.some((pattern) => pattern.test(name))) continue
    count += 1
    if (names.length < MAX_NAMES) names.push(quote(name, 60))
  }
  if (count === 0) return undefined
  const more = count > names.length ? ', …' : ''
  const noun = count === 1 ? 'a tensor' : `${count} tensors`
  return `${where} has ${noun} that the model does not use: ${names.join(', ')}${more}`
}
