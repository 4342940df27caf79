import { native, type Limits } from '../native.js'

/** Bounds of configurations: the engine's own, asked when they are needed and not when this module is loaded. */
export function limits(): Limits {
  return native().limits
}

/** The largest sample or image size, in latents or pixels along one side, that a configuration can name. */
export const MAX_SAMPLE_SIZE = 65_536
