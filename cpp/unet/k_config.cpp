#include "unet/k_config.h"

#include <string>

#include "core/require.h"

namespace nd {
namespace {

void check_levels(const std::vector<int64_t>& values, const char* name, size_t levels, int64_t least) {
  require(values.size() == levels,
          std::string("Expected UNet ") + name + " to have " + std::to_string(levels) +
              " elements, one for each level, but received " + std::to_string(values.size()));
  for (int64_t value : values)
    require(value >= least, std::string("Expected UNet ") + name + " of at least " + std::to_string(least) +
                                " but received " + std::to_string(value));
}

}  // namespace

void KUnetConfig::check() const {
  const size_t count = block_channels.size();
  require(count >= 2, "Expected UNet blockChannels to have at least 2 elements");
  check_levels(block_channels, "blockChannels", count, 1);
  check_levels(layers_per_block, "layersPerBlock", count, 1);
  check_levels(attends, "downTransformerDepth", count, 0);
  require(in_channels >= 1 && out_channels >= 1, "Expected UNet inChannels and outChannels of at least 1");
  require(head_width >= 1 && group_width >= 1,
          "Expected a UNet kBlocks.headWidth and normGroups of at least 1");
  require(context_width >= 1, "Expected a UNet contextWidth of at least 1");
  require(condition_width >= 1, "Expected a UNet kBlocks.conditionWidth of at least 1");
  require(time_width >= 2 && time_width % 2 == 0, "Expected an even UNet kBlocks.timeWidth");
  require(attends.back() != 0, "Expected a UNet with attention at its last level");
  for (size_t i = 0; i < count; ++i) {
    const int64_t channels = block_channels[i];
    require(channels % group_width == 0, "Expected UNet blockChannels[" + std::to_string(i) +
                                             "] to be a multiple of " + std::to_string(group_width) +
                                             " but received " + std::to_string(channels));
    const int64_t groups = channels / group_width, above = this->above(static_cast<int64_t>(i));
    require(attends[i] != 0 || above % groups == 0,
            "Expected UNet blockChannels[" + std::to_string(i) + "] to have a number of groups, " +
                std::to_string(groups) + ", that divides the channels of the level above, " +
                std::to_string(above));
    // The decoder's last layer of a level attends with the channels of the level above.
    const bool below_attends = i + 1 < count && attends[i + 1] != 0;
    require((attends[i] == 0 && !below_attends) || channels % head_width == 0,
            "Expected UNet kBlocks.headWidth to divide blockChannels[" + std::to_string(i) + "], " +
                std::to_string(channels) + ", but received " + std::to_string(head_width));
  }
}

}  // namespace nd
