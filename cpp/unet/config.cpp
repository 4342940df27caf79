#include "unet/config.h"

#include <algorithm>
#include <string>

#include "core/require.h"

namespace nd {
namespace {

void check_levels(const std::vector<int64_t>& values, const char* name, size_t levels, int64_t least) {
  require(values.size() == levels,
          std::string("Expected UNet ") + name + " to have " + std::to_string(levels) +
              " elements, one for each level, but received " + std::to_string(values.size()));
  for (int64_t value : values) {
    require(value >= least, std::string("Expected UNet ") + name + " of at least " + std::to_string(least) +
                                " but received " + std::to_string(value));
  }
}

/// `extra`: layers of a level beyond those of layers_per_block.
void check_depths(const std::vector<Depths>& levels, const char* name, const UnetConfig& config,
                  int64_t extra) {
  require(levels.size() == config.block_channels.size(),
          std::string("Expected UNet ") + name + " to have " + std::to_string(config.levels()) +
              " elements, one for each level, but received " + std::to_string(levels.size()));
  for (size_t i = 0; i < levels.size(); ++i) {
    const std::vector<int64_t>& values = levels[i].values();
    const int64_t layers = config.layers_per_block[i] + extra;
    require(values.size() == 1 || static_cast<int64_t>(values.size()) == layers,
            std::string("Expected UNet ") + name + "[" + std::to_string(i) + "] to have 1 or " +
                std::to_string(layers) + " elements but received " + std::to_string(values.size()));
    for (int64_t value : values)
      require(value >= 0,
              std::string("Expected UNet ") + name + " of at least 0 but received " + std::to_string(value));
  }
}

}  // namespace

bool Depths::any() const {
  return std::any_of(values_.begin(), values_.end(), [](int64_t depth) { return depth > 0; });
}

bool UnetConfig::has_attention() const {
  const auto attends = [](const Depths& level) { return level.any(); };
  return mid_transformer_depth > 0 ||
         std::any_of(down_transformer_depth.begin(), down_transformer_depth.end(), attends) ||
         std::any_of(up_transformer_depth.begin(), up_transformer_depth.end(), attends);
}

int64_t UnetConfig::first_attention_level() const {
  for (size_t level = 0; level + 1 < block_channels.size(); ++level)
    if (down_transformer_depth[level].any() || up_transformer_depth[level].any())
      return static_cast<int64_t>(level);
  return levels() - 1;
}

int64_t UnetConfig::class_floats() const {
  switch (class_embedding) {
    case ClassEmbedding::none:
      return 0;
    case ClassEmbedding::table:
    case ClassEmbedding::timestep:
      return 1;
    case ClassEmbedding::projection:
      return class_width;
  }
  return 0;
}

void UnetConfig::check() const {
  const size_t count = block_channels.size();
  require(count >= 1, "Expected UNet blockChannels to have at least 1 element");
  check_levels(block_channels, "blockChannels", count, 1);
  check_levels(layers_per_block, "layersPerBlock", count, 1);
  check_depths(down_transformer_depth, "downTransformerDepth", *this, 0);
  check_depths(up_transformer_depth, "upTransformerDepth", *this, 1);
  check_levels(heads, "heads", count, 1);
  if (!only_cross_attention.empty()) check_levels(only_cross_attention, "onlyCrossAttention", count, 0);
  require(in_channels >= 1 && out_channels >= 1, "Expected UNet inChannels and outChannels of at least 1");
  require(mid_transformer_depth >= -1, "Expected a UNet midTransformerDepth of at least -1");
  require(norm_groups >= 1, "Expected UNet normGroups of at least 1");
  for (size_t i = 0; i < count; ++i) {
    require(block_channels[i] % norm_groups == 0,
            "Expected UNet normGroups to divide blockChannels[" + std::to_string(i) + "], " +
                std::to_string(block_channels[i]) + ", but received " + std::to_string(norm_groups));
    const bool attends = down_transformer_depth[i].any() || up_transformer_depth[i].any() ||
                         (i + 1 == count && mid_transformer_depth > 0);
    require(!attends || block_channels[i] % heads[i] == 0,
            "Expected UNet heads[" + std::to_string(i) + "] to divide its " +
                std::to_string(block_channels[i]) + " channels but received " + std::to_string(heads[i]));
  }
  require(context_width >= (has_attention() ? 1 : 0), "Expected a UNet contextWidth of at least 1");
  require(added_width >= 0 && added_time_width >= 0 && (added_width == 0 || added_time_width >= 1),
          "Expected a UNet addedTimeWidth of at least 1 beside an addedWidth");
  // Its lowest frequency is divided by half the width less one.
  require(guidance_width == 0 || guidance_width >= 4, "Expected a UNet guidanceWidth of at least 4");
  require(class_embedding != ClassEmbedding::table || class_count >= 1,
          "Expected a UNet classEmbedding with a count of at least 1");
  require(class_embedding != ClassEmbedding::projection || class_width >= 1,
          "Expected a UNet classEmbedding with a width of at least 1");
  require(control_types == 0 || (control_types > 0 && added_time_width >= 1),
          "Expected controlTypes of at least 0 and, above it, a UNet addedTimeWidth of at least 1");
  // The frequencies' exponent is divided by this.
  const int64_t half = block_channels[0] / 2;
  require(block_channels[0] < 2 || static_cast<float>(half) != freq_shift,
          "Expected a UNet freqShift other than half of blockChannels[0]");
}

}  // namespace nd
