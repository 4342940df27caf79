// What makes one of k-diffusion's UNets differ from another, as data.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nd {

/// Vectors have one element for each resolution level, highest resolution first.
struct KUnetConfig {
  int64_t in_channels = 8;
  int64_t out_channels = 5;
  std::vector<int64_t> block_channels;  // multiples of group_width and, where a level attends, of head_width
  std::vector<int64_t> layers_per_block;
  /// 1 for each level whose residual blocks are followed by attention to the context, else 0. The last level
  /// always attends, also to the image itself.
  std::vector<int64_t> attends;
  int64_t head_width = 64;
  int64_t group_width = 32;  // channels of a normalization's group
  int64_t context_width = 768;
  int64_t time_width = 768;
  int64_t condition_width = 896;  // of the vector that is embedded with the timestep
  float norm_eps = 1e-5f;
  bool flip_sin_to_cos = true;

  int64_t levels() const { return static_cast<int64_t>(block_channels.size()); }
  /// Both sides of the latents must be multiples of this: the decoder doubles what the encoder has halved.
  int64_t side_multiple() const { return int64_t{1} << (levels() - 1); }
  /// Channels of the level above, in which the decoder's layers of this level end.
  int64_t above(int64_t level) const {
    return block_channels[static_cast<size_t>(level > 0 ? level - 1 : 0)];
  }
  /// Error invalid_argument names the invalid field.
  void check() const;
};

}  // namespace nd
