// T2I-Adapter (Mou et al. 2023): a small network that sees a picture once per image. Its features, one for
// each level of the UNet's encoder, are added to what the levels compute. T2IAdapter of diffusers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/kept_tensors.h"

namespace nd {

struct T2iAdapterConfig {
  int64_t image_channels = 3;
  /// Pixels of the picture along one side that become one of the first feature.
  int64_t factor = 8;
  std::vector<int64_t> channels{320, 640, 1280, 1280};  // of each feature
  std::vector<int64_t> halves{0, 1, 1, 1};  // whether a feature has half the size of the one before
  int64_t blocks = 2;                       // residual blocks of each feature
  bool light = false;                       // they have a quarter of the channels

  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Bytes of working memory that embedding pictures takes, and of the features that it keeps.
struct T2iAdapterMemory {
  size_t working = 0, features = 0;
};

class T2iAdapter {
 public:
  /// Tensor names are diffusers' without the `adapter.` prefix. Errors: invalid_argument (config),
  /// model_shape.
  T2iAdapter(const T2iAdapterConfig& config, Loader& loader);

  const T2iAdapterConfig& config() const { return config_; }
  int64_t features() const { return static_cast<int64_t>(levels_.size()); }

  /// The features of pictures [n][image_channels][h][w] → `to`. Sides that are no multiple of `factor` are
  /// continued with their last pixels. Throws Cancelled.
  void embed(const float* pictures, int64_t n, int64_t h, int64_t w, KeptTensors& to,
             const CancelToken* cancel);

  /// Of such a call, without allocating it.
  T2iAdapterMemory memory(int64_t n, int64_t h, int64_t w) const;

  void trim() { workspace_.trim(); }

 private:
  struct Residual {
    std::shared_ptr<const Conv2d> first, second;
  };
  struct Level {
    bool halves = false;
    std::shared_ptr<const Conv2d> in, out;  // or null
    std::vector<Residual> blocks;
  };
  struct Size {
    int64_t h, w;
  };

  /// Of the first feature.
  Size first_size(int64_t h, int64_t w) const;
  /// Calls keep(index, feature) with each feature of `squares` [image_channels · factor²][size.h][size.w].
  template <class Keep>
  void forward(ForwardContext& ctx, const float* squares, Size size, Keep keep) const;

  T2iAdapterConfig config_;
  Backend& backend_;
  std::shared_ptr<const Conv2d> conv_in_;  // null in a light one
  std::vector<Level> levels_;
  Workspace workspace_;
};

}  // namespace nd
