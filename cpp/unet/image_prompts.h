// Images that a UNet attends to beside the context (Ye et al. 2023, "IP-Adapter: Text Compatible Image Prompt
// Adapter"). An IP-Adapter computes their keys and values once for each run, see control/ip_adapter.h.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/layers.h"
#include "unet/config.h"
#include "unet/kept_tensors.h"

namespace nd {

/// The cross-attentions of a UNet in the order of loading: encoder levels, middle block, decoder.
struct CrossAttentions {
  std::vector<int64_t> inner;      // widths of each one's keys, and of its values
  size_t encoder = 0, middle = 0;  // how many of them are there
};
CrossAttentions cross_attentions(const UnetConfig& config);

struct ImagePrompt {
  /// Of each cross-attention in the order of loading, keys and values [count][1][length][2 · inner]; behind
  /// them nothing, or a mask [1][h][w][1] for each level. Null while working memory is computed ahead.
  const KeptTensors* kept = nullptr;
  int64_t count = 1, length = 0;
  std::vector<int32_t> rows;  // [n]: which of the `count` each row of the batch attends to
  float scale = 1;

  /// Appends what the arguments of kernels that read them depend on.
  void describe(std::vector<uint64_t>& key) const;
};

/// The prompts of a forward as the attentions of one transformer see them.
struct AttendedImages {
  const std::vector<ImagePrompt>* prompts = nullptr;  // null: none
  size_t attention = 0;   // the first of the transformer's, in the order of loading
  size_t attentions = 0;  // of the whole UNet

  /// What attention `index` of the transformer has for x: [n][h][w][channels].
  std::vector<AddedContext> contexts(size_t index, const Tensor& x, int64_t inner) const;
};

/// Error invalid_argument: prompts that were not made for n rows of this UNet and memory.
void check_image_prompts(const std::vector<ImagePrompt>& prompts, const UnetConfig& config, int64_t n,
                         const Memory& memory);

}  // namespace nd
