#include "unet/unet.h"

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>

#include "core/error.h"

namespace nd {
namespace {

uint64_t next_weights_id() {
  static std::atomic<uint64_t> last{0};
  return ++last;
}

}  // namespace

Unet::Unet(const UnetConfig& config, Loader& loader)
    : backend_(loader.backend()),
      weights_id_(next_weights_id()),
      encoder_(config, loader),
      workspace_(backend_) {
  load_decoder(loader);
  Conv2dOptions outermost;
  outermost.role = Role::input_output;
  const int64_t channels = config.block_channels[0];
  norm_out_ = loader.group_norm("conv_norm_out", channels, config.norm_groups, config.norm_eps);
  conv_out_ = loader.conv2d("conv_out", channels, config.out_channels, outermost);
}

void Unet::load_decoder(Loader& loader) {
  const UnetConfig& config = encoder_.config();
  // Channels of the skip connections in the order of the encoder; the decoder takes them from the back.
  std::vector<int64_t> skips = {config.block_channels[0]};
  for (size_t l = 0; l < config.block_channels.size(); ++l) {
    const bool downsamples = l + 1 < config.block_channels.size();
    skips.insert(skips.end(), static_cast<size_t>(config.layers_per_block[l]) + (downsamples ? 1 : 0),
                 config.block_channels[l]);
  }
  int64_t channels = config.block_channels.back();
  for (int64_t i = 0; i < config.levels(); ++i) {
    const int64_t level = config.levels() - 1 - i;
    const size_t l = static_cast<size_t>(level);
    const std::string prefix = "up_blocks." + std::to_string(i);
    DecoderLevel result;
    for (int64_t j = 0; j <= config.layers_per_block[l]; ++j) {
      result.layers.push_back(&encoder_.add_layer(loader, prefix, j, channels + skips.back(), level,
                                                  config.up_transformer_depth[l].of(j),
                                                  config.only_cross(level)));
      skips.pop_back();
      ++decoder_layers_;
      channels = config.block_channels[l];
    }
    if (level > 0) {
      Conv2dOptions twice;
      twice.upsample = twice.feeds_group_norm = true;
      result.upsample = loader.conv2d(prefix + ".upsamplers.0.conv", channels, channels, twice);
    }
    decoder_.push_back(std::move(result));
  }
}

void Unet::prepare(const Conditioning& conditioning, int64_t n, const CancelToken* cancel) {
  const TimestepKeys keys = encoder_.time().keys(conditioning, std::min(n, TimestepCache::kMaxEntries));
  encoder_.cache_shifts(workspace_, keys, cancel);
}

void Unet::check(const UnetOptions& options) const {
  const auto require = [](bool holds, const std::string& message) {
    if (!holds) throw Error(ErrorCode::invalid_argument, message);
  };
  // Written so that NaN is refused.
  require(options.token_merging >= 0 && options.token_merging <= 0.75,
          "Expected tokenMerging between 0 and 0.75");
  require(options.depth >= 0 && options.depth <= std::max<int64_t>(max_depth(), 0),
          "Expected depth of deep features of at most " + std::to_string(max_depth()) + " but received " +
              std::to_string(options.depth));
  require(!options.deep || options.depth > 0, "Expected depth of at least 1 for deep features");
}

void Unet::trim() {
  workspace_.trim();
  encoder_.clear_caches();
}

}  // namespace nd
