// ControlLLLite (kohya-ss 2023): small networks that see a picture and the input of a projection of a UNet's
// attentions, and add to this input. Those that see the picture run once per image.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "nn/loader.h"
#include "nn/workspace.h"
#include "unet/input_changes.h"

namespace nd {

/// The networks of one transformer block.
struct ControlLlliteBlock {
  int64_t block = 0;                 // counted as InputNetworks does
  int64_t channels = 0;              // of its attentions
  std::vector<int64_t> projections;  // which have a network: 1 or 0 for each Projection
  /// Sides of the convolutions that embed the picture, which are also their strides: their product is the
  /// pixels for each token, along one side.
  std::vector<int64_t> kernels;

  int64_t factor() const;
};

struct ControlLlliteConfig {
  int64_t image_channels = 3;
  int64_t condition_width = 32;  // of the embedded picture
  int64_t width = 64;            // of the hidden layers
  std::vector<ControlLlliteBlock> blocks;

  /// Error invalid_argument names the invalid field.
  void check() const;
};

/// Bytes of working memory that embedding pictures takes, and that a forward of the UNet takes more; and of
/// what a run keeps.
struct ControlLlliteMemory {
  size_t embedding = 0, forward = 0, kept = 0;
};

class ControlLllite final : public InputNetworks {
 public:
  /// Tensor names: `3.queries.conditioning1.0`, `…conditioning1.2`, …, `3.queries.down.0`, `…mid.0`,
  /// `…up.0` for block 3; likewise `keys`, `values`, `cross_queries`. Errors: invalid_argument (config),
  /// model_shape.
  ControlLllite(const ControlLlliteConfig& config, Loader& loader);

  const ControlLlliteConfig& config() const { return config_; }
  /// Sides of pictures must be multiples of it.
  int64_t factor() const;

  /// Embeds pictures [n][image_channels][h][w] for every network. Throws Cancelled. Error invalid_argument: a
  /// size that is no multiple.
  void embed(const float* pictures, int64_t n, int64_t h, int64_t w, KeptTensors& to,
             const CancelToken* cancel);
  /// For a batch of `rows` that n pictures guide. Nothing is allocated. Error invalid_argument: a size that
  /// is no multiple.
  ControlLlliteMemory memory(int64_t n, int64_t h, int64_t w, int64_t rows) const;

  bool changes(size_t block, Projection projection) const override;
  Tensor forward(ForwardContext& ctx, size_t block, Projection projection, const Tensor& x,
                 const KeptTensors* kept) const override;
  void check(const KeptTensors& kept, const Memory& memory) const override;
  uint64_t id() const override { return id_; }

  void trim() { workspace_.trim(); }

 private:
  struct Network {
    std::vector<std::shared_ptr<const Conv2d>> conditioning;
    std::shared_ptr<const Linear> down, mid, up;
    int64_t factor = 1, channels = 0;
  };

  void add_network(Loader& loader, const ControlLlliteBlock& block, Projection projection);
  void check_sides(int64_t n, int64_t h, int64_t w) const;
  void expect(int64_t n, int64_t h, int64_t w, KeptTensors& to) const;
  Tensor embed(ForwardContext& ctx, const Network& network, const Tensor& picture) const;

  ControlLlliteConfig config_;
  Backend& backend_;
  uint64_t id_;
  std::vector<Network> networks_;
  /// Places of the networks of each block among all, −1: none.
  std::vector<std::vector<int64_t>> places_;
  Workspace workspace_;
};

}  // namespace nd
