#include "unet/config.h"

#include <string>

#include "core/error.h"

namespace nd {
namespace {

void require(bool holds, const std::string& message) {
  if (!holds) throw Error(ErrorCode::invalid_argument, message);
}

void check_levels(const std::vector<int64_t>& values, const char* name, size_t levels, int64_t least) {
  require(values.size() == levels,
          std::string("Expected UNet ") + name + " to have " + std::to_string(levels) +
              " elements, one for each level, but received " + std::to_string(values.size()));
  for (int64_t value : values) {
    require(value >= least, std::string("Expected UNet ") + name + " of at least " + std::to_string(least) +
                                " but received " + std::to_string(value));
  }
}

}  // namespace

bool UnetConfig::has_attention() const {
  if (mid_transformer_depth > 0) return true;
  for (int64_t depth : down_transformer_depth) {
    if (depth > 0) return true;
  }
  for (int64_t depth : up_transformer_depth) {
    if (depth > 0) return true;
  }
  return false;
}

int64_t UnetConfig::first_attention_level() const {
  for (size_t level = 0; level + 1 < block_channels.size(); ++level)
    if (down_transformer_depth[level] > 0 || up_transformer_depth[level] > 0)
      return static_cast<int64_t>(level);
  return levels() - 1;
}

void UnetConfig::check() const {
  const size_t count = block_channels.size();
  require(count >= 1, "Expected UNet blockChannels to have at least 1 element");
  check_levels(block_channels, "blockChannels", count, 1);
  check_levels(layers_per_block, "layersPerBlock", count, 1);
  check_levels(down_transformer_depth, "downTransformerDepth", count, 0);
  check_levels(up_transformer_depth, "upTransformerDepth", count, 0);
  check_levels(heads, "heads", count, 1);
  require(in_channels >= 1 && out_channels >= 1, "Expected UNet inChannels and outChannels of at least 1");
  require(mid_transformer_depth >= -1, "Expected a UNet midTransformerDepth of at least -1");
  require(norm_groups >= 1, "Expected UNet normGroups of at least 1");
  for (size_t i = 0; i < count; ++i) {
    require(block_channels[i] % norm_groups == 0,
            "Expected UNet normGroups to divide blockChannels[" + std::to_string(i) + "], " +
                std::to_string(block_channels[i]) + ", but received " + std::to_string(norm_groups));
    const bool attends = down_transformer_depth[i] > 0 || up_transformer_depth[i] > 0 ||
                         (i + 1 == count && mid_transformer_depth > 0);
    require(!attends || block_channels[i] % heads[i] == 0,
            "Expected UNet heads[" + std::to_string(i) + "] to divide its " +
                std::to_string(block_channels[i]) + " channels but received " + std::to_string(heads[i]));
  }
  require(context_width >= (has_attention() ? 1 : 0), "Expected a UNet contextWidth of at least 1");
  // The frequencies' exponent is divided by this.
  const int64_t half = block_channels[0] / 2;
  require(block_channels[0] < 2 || static_cast<float>(half) != freq_shift,
          "Expected a UNet freqShift other than half of blockChannels[0]");
}

}  // namespace nd
