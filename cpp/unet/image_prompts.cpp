#include "unet/image_prompts.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/require.h"
#include "weights/formats/half.h"

namespace nd {
namespace {

/// The mask for features of this size.
Tensor mask_for(const KeptTensors& kept, size_t first, const Tensor& x) {
  for (size_t i = first; i < kept.count(); ++i) {
    Tensor mask = kept.view(i);
    if (mask.h == x.h && mask.w == x.w) return mask;
  }
  throw Error(ErrorCode::invalid_argument, "Expected masks of image prompts for latents of this size");
}

}  // namespace

CrossAttentions cross_attentions(const UnetConfig& config) {
  CrossAttentions result;
  const auto add = [&](size_t level, int64_t depth) {
    for (int64_t i = 0; i < depth; ++i) result.inner.push_back(config.block_channels[level]);
  };
  const size_t levels = config.block_channels.size();
  for (size_t level = 0; level < levels; ++level)
    for (int64_t i = 0; i < config.layers_per_block[level]; ++i)
      add(level, config.down_transformer_depth[level].of(i));
  result.encoder = result.inner.size();
  add(levels - 1, std::max<int64_t>(config.mid_transformer_depth, 0));
  result.middle = result.inner.size() - result.encoder;
  for (size_t level = levels; level-- > 0;)
    for (int64_t i = 0; i <= config.layers_per_block[level]; ++i)
      add(level, config.up_transformer_depth[level].of(i));
  return result;
}

void ImagePrompt::describe(std::vector<uint64_t>& key) const {
  kept->describe(key);
  for (const int32_t row : rows) key.push_back(static_cast<uint64_t>(row));
  key.push_back(bits_of(scale));
}

std::vector<AddedContext> AttendedImages::contexts(size_t index, const Tensor& x, int64_t inner) const {
  std::vector<AddedContext> result;
  if (!prompts) return result;
  for (const ImagePrompt& prompt : *prompts) {
    AddedContext context;
    context.factor = prompt.scale;
    if (prompt.kept) {
      context.keys_values = prompt.kept->view(attention + index);
      context.rows = prompt.rows.data();
      if (prompt.kept->count() > attentions) context.mask = mask_for(*prompt.kept, attentions, x);
    } else {
      context.keys_values = Tensor::borrowed({}, prompt.count, 1, prompt.length, 2 * inner);
    }
    result.push_back(std::move(context));
  }
  return result;
}

void check_image_prompts(const std::vector<ImagePrompt>& prompts, const UnetConfig& config, int64_t n,
                         const Memory& memory) {
  const std::vector<int64_t> inner = cross_attentions(config).inner;
  for (const ImagePrompt& prompt : prompts) {
    require(prompt.kept && prompt.kept->in(memory) && prompt.kept->count() >= inner.size(),
            "Expected image prompts that an IP-Adapter made for this UNet");
    require(static_cast<int64_t>(prompt.rows.size()) == n,
            "Expected a row of an image prompt for each image");
    for (size_t i = 0; i < inner.size(); ++i) {
      const Tensor kept = prompt.kept->view(i);
      require(kept.c == 2 * inner[i], "Expected image prompts that an IP-Adapter made for this UNet");
      for (const int32_t row : prompt.rows)
        require(row >= 0 && row < kept.n, "Expected rows that an image prompt has");
    }
  }
}

}  // namespace nd
