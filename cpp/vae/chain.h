// The convolutions between an autoencoder's lowest and its highest resolution as one list, to be run on the
// whole image or on a band of its rows.
#pragma once
#include <utility>
#include <vector>

#include "nn/backend.h"
#include "nn/res_block.h"

namespace nd {

/// A convolution with the operations around it. A residual connection spans links: it begins at the input of
/// the link that opens it and is added to the result of the next link that closes one.
struct Link {
  const Conv2d* conv = nullptr;
  const GroupNorm* norm = nullptr;  // the input is SiLU(norm(x))
  bool relu = false;                // applied to the result, after the residual is added
  bool opens_residual = false;
  const Conv2d* shortcut = nullptr;  // 1×1, applied to the residual that is opened
  bool closes_residual = false;

  bool upsamples() const { return conv->options().upsample; }
  bool downsamples() const { return conv->options().stride == 2; }
};

/// The activations between two links: x, and the residual that is open.
struct Activations {
  Tensor x, residual;
};

class Chain {
 public:
  /// ascending: the resolution increases along the chain (a decoder); else it decreases (an encoder).
  explicit Chain(bool ascending) : ascending_(ascending) {}
  bool ascending() const { return ascending_; }

  void add(const Link& link) { links_.push_back(link); }
  /// conv: null in a dry run, which makes no layers.
  void add(const Conv2d* conv, const GroupNorm* norm = nullptr) { links_.push_back({conv, norm}); }
  void add(const ResBlock& block);
  /// Ends a level: the links added since the last one. An upsampling link begins a level, a downsampling link
  /// ends one.
  void end_level();

  const std::vector<Link>& links() const { return links_; }
  /// The links [first, last) of each level. Links after the last level belong to none.
  const std::vector<std::pair<size_t, size_t>>& levels() const { return levels_; }
  bool normalizes() const;

  /// The shape of the image before each link and after the last one.
  std::vector<ImageShape> shapes(ImageShape input) const;

  /// Runs links [first, last). factors: the result of GroupNorm::affine for every link of the chain, empty
  /// where a link has no norm; null: each norm is computed from its own input. keep_open: whether to return a
  /// residual that is still open after the last of them.
  Activations run(ForwardContext& ctx, Activations in, size_t first, size_t last, const Tensor* factors,
                  bool keep_open) const;

  /// The rows before link `first` that rows `out` after link last − 1 depend on. A band begins at an even
  /// row, so that Winograd tiles and downsampled rows are aligned in it as they are in the whole image.
  Rows input_rows(const std::vector<ImageShape>& shapes, size_t first, size_t last, Rows out) const;
  /// The row after link last − 1 at which a band begins whose input begins at `row` before link `first`.
  int64_t output_row(size_t first, size_t last, int64_t row) const;

 private:
  bool ascending_;
  std::vector<Link> links_;
  std::vector<std::pair<size_t, size_t>> levels_;
};

}  // namespace nd
