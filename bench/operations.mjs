/**
 * Counts the operations of one UNet forward pass from its configuration: two for each multiply-add of the convolutions,
 * linear layers and attention of a direct computation. It leaves out what is computed once per prompt or schedule (keys
 * and values of the context, layers of the timestep), and norms and activations.
 */

/** Visits the blocks in the order of the data, each with its pixels and channels. */
function walk(config, height, width, visit) {
  const { blockChannels, layersPerBlock, downTransformerDepth, upTransformerDepth, midTransformerDepth } =
    config
  const levels = blockChannels.length
  const pixels = (level) => Math.ceil(height / 2 ** level) * Math.ceil(width / 2 ** level)
  const layer = (level, from, depth) => {
    const to = blockChannels[level]
    visit.block(pixels(level), from, to)
    if (depth > 0) visit.transformer(pixels(level), to, depth, config.contextWidth)
  }

  // A level has one number for all of its layers, or one for each.
  const depthOf = (depth, layer) => (Array.isArray(depth) ? depth[layer] : depth)
  let channels = blockChannels[0]
  const skips = [channels]
  visit.convolution(pixels(0), config.inChannels, channels)
  for (let level = 0; level < levels; level++) {
    for (let i = 0; i < layersPerBlock[level]; i++) {
      layer(level, channels, depthOf(downTransformerDepth[level], i))
      channels = blockChannels[level]
      skips.push(channels)
    }
    if (level === levels - 1) continue
    visit.convolution(pixels(level + 1), channels, channels) // stride 2
    skips.push(channels)
  }
  if (midTransformerDepth >= 0) layer(levels - 1, channels, midTransformerDepth)
  if (midTransformerDepth > 0) layer(levels - 1, channels, 0)
  for (let level = levels - 1; level >= 0; level--) {
    for (let i = 0; i <= layersPerBlock[level]; i++) {
      layer(level, channels + skips.pop(), depthOf(upTransformerDepth[level], i))
      channels = blockChannels[level]
    }
    if (level > 0) visit.convolution(pixels(level - 1), channels, channels) // after upsampling
  }
  visit.convolution(pixels(0), channels, config.outChannels)
}

/**
 * @param {import('../dist/native.js').UnetConfig} config
 * @param {{ height: number, width: number, batch?: number, tokens?: number }} input of latents, not of pixels
 * @returns {{ convolution: number, linear: number, attention: number, total: number }}
 */
export function unetOperations(config, { height, width, batch = 1, tokens = 77 }) {
  const sums = { convolution: 0, linear: 0, attention: 0 }
  walk(config, height, width, {
    convolution(pixels, from, to) {
      sums.convolution += 2 * 9 * pixels * from * to
    },
    block(pixels, from, to) {
      sums.convolution += 2 * pixels * (9 * from * to + 9 * to * to + (from === to ? 0 : from * to))
    },
    transformer(pixels, c, depth) {
      // Projections in and out; q, k, v and out of self-attention, q and out of cross-attention, c → 8c and 4c → c.
      sums.linear += 2 * pixels * c * c * (2 + depth * (4 + 2 + 8 + 4))
      sums.attention += depth * 4 * pixels * (pixels + tokens) * c
    },
  })
  for (const kind of Object.keys(sums)) sums[kind] *= batch
  return { ...sums, total: sums.convolution + sums.linear + sums.attention }
}
