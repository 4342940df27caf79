// Networks that change what the projections of a UNet's attentions see, such as those of ControlLLLite
// (control/control_lllite.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nn/backend.h"
#include "unet/kept_tensors.h"

namespace nd {

/// Of one transformer block: those of self-attention, and the queries of cross-attention.
enum class Projection : int { queries, keys, values, cross_queries };
constexpr int kProjections = 4;

/// Transformer blocks are counted in the order of loading: encoder levels, middle block, decoder.
class InputNetworks {
 public:
  InputNetworks() = default;
  virtual ~InputNetworks() = default;
  InputNetworks(const InputNetworks&) = delete;
  InputNetworks& operator=(const InputNetworks&) = delete;

  virtual bool changes(size_t block, Projection projection) const = 0;
  /// What is added to x [n][h][w][channels], the input of a projection that it changes. `kept` is what it
  /// knows of the pictures of this run: row i has picture i modulo their number. Error invalid_argument: they
  /// have another size.
  virtual Tensor forward(ForwardContext& ctx, size_t block, Projection projection, const Tensor& x,
                         const KeptTensors* kept) const = 0;
  /// Error invalid_argument: networks on another device, or another network's tensors.
  virtual void check(const KeptTensors& kept, const Memory& memory) const = 0;
  /// Differs between any two objects of this process.
  virtual uint64_t id() const = 0;
};

/// Networks, their pictures, how strongly they count, and the rows of the batch that they change.
struct ChangedInputs {
  const InputNetworks* networks = nullptr;
  const KeptTensors* kept = nullptr;
  float scale = 1;
  int64_t first = 0, count = 0;

  /// Appends what the arguments of kernels depend on.
  void describe(std::vector<uint64_t>& key) const;
};

/// Those of a forward as one transformer block sees them.
struct InputChanges {
  const std::vector<ChangedInputs>* all = nullptr;  // null: none
  size_t block = 0;

  bool any(Projection projection) const;
  /// x with all changes, in memory of its own. Networks see what those before them have changed.
  Tensor apply(ForwardContext& ctx, Projection projection, const Tensor& x) const;
};

/// Error invalid_argument: changes that were not made for n rows of this memory.
void check_input_changes(const std::vector<ChangedInputs>& changes, int64_t n, const Memory& memory);

}  // namespace nd
