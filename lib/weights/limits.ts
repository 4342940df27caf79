import type { TextEncoderConfig, UnetConfig, VaeConfig } from '../native.js'

/**
 * Bounds of configurations, far above any published model of this family: they keep a hostile file from asking for
 * millions of layers, and every product of sizes exact.
 */
export const LIMITS = {
  levels: 8,
  layers: 32,
  transformerDepth: 32,
  textLayers: 96,
  channels: 65_536,
  vocabulary: 1 << 24,
  positions: 65_536,
} as const

/** What does not fit together in a configuration, in words; undefined: all does. */
export function unetMismatch(c: UnetConfig): string | undefined {
  for (const [i, channels] of c.blockChannels.entries()) {
    if (channels % c.normGroups !== 0) {
      return `expected normGroups ${c.normGroups} to divide the ${channels} channels of level ${i}`
    }
    const last = i === c.blockChannels.length - 1
    const attends =
      c.downTransformerDepth[i] > 0 || c.upTransformerDepth[i] > 0 || (last && c.midTransformerDepth > 0)
    if (attends && channels % c.heads[i] !== 0) {
      return `expected ${c.heads[i]} heads to divide the ${channels} channels of level ${i}`
    }
  }
  return undefined
}

export function vaeMismatch(c: VaeConfig): string | undefined {
  const level = c.blockChannels.findIndex((channels) => channels % c.normGroups !== 0)
  if (level < 0) return undefined
  return `expected normGroups ${c.normGroups} to divide the ${c.blockChannels[level]} channels of level ${level}`
}

export function textMismatch(c: TextEncoderConfig): string | undefined {
  return c.width % c.heads === 0 ? undefined : `expected ${c.heads} heads to divide the width ${c.width}`
}
