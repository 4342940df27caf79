// What makes one UNet2DConditionModel differ from another, as data.
#pragma once
#include <cstdint>
#include <vector>

namespace nd {

/// Vectors have one element for each resolution level, highest resolution first.
struct UnetConfig {
  int64_t in_channels = 4;
  int64_t out_channels = 4;
  std::vector<int64_t> block_channels;
  std::vector<int64_t> layers_per_block;
  std::vector<int64_t> down_transformer_depth;  // transformer blocks of each attention; 0: no attention
  std::vector<int64_t> up_transformer_depth;
  int64_t mid_transformer_depth = 1;  // −1: no middle block; 0: one residual block, no attention
  std::vector<int64_t> heads;
  int64_t context_width = 768;
  int64_t norm_groups = 32;
  float norm_eps = 1e-5f;
  bool flip_sin_to_cos = true;
  float freq_shift = 0;

  int64_t levels() const { return static_cast<int64_t>(block_channels.size()); }
  int64_t time_width() const { return 4 * block_channels[0]; }
  bool has_attention() const;
  /// The highest-resolution level with attention in the encoder or decoder, else the last.
  int64_t first_attention_level() const;
  /// Error invalid_argument names the invalid field.
  void check() const;
};

}  // namespace nd
