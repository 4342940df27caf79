import { native, type Limits } from '../../native.js'

/** The engine's limits for configurations. They are read when they are needed, and not when this module is loaded. */
export function limits(): Limits {
  return native().limits
}

/** Largest sample or image size in a configuration, in latents or pixels along one side. */
export const MAX_SAMPLE_SIZE = 65_536
