// The convolutions between an autoencoder's lowest and its highest resolution as one list, to be run on the
// whole image or on a band of its rows.
#pragma once
#include <utility>
#include <vector>

#include "nn/backend.h"
#include "nn/res_block.h"

namespace nd {

/// A convolution and what goes with it. Residuals span links: one opens, a later one closes.
struct Link {
  const Conv2d* conv = nullptr;
  const GroupNorm* norm = nullptr;   // SiLU(norm(x)) is convolved
  bool relu = false;                 // of the result, after the residual
  bool opens = false;                // x is what the next link that closes adds to its result
  const Conv2d* shortcut = nullptr;  // 1×1, through which x goes for that
  bool closes = false;

  bool upsamples() const { return conv->options().upsample; }
  bool downsamples() const { return conv->options().stride == 2; }
};

/// The activations between two links: x, and the residual that is open.
struct Activations {
  Tensor x, residual;
};

class Chain {
 public:
  /// rises: the last level has the highest resolution, else the first.
  explicit Chain(bool rises) : rises_(rises) {}
  bool rises() const { return rises_; }

  void add(const Link& link) { links_.push_back(link); }
  void add(const Conv2d& conv, const GroupNorm* norm = nullptr) { links_.push_back({&conv, norm}); }
  void add(const ResBlock& block);
  /// The links since the last level, which may take to a higher resolution first or to a lower one last.
  void end_level();

  const std::vector<Link>& links() const { return links_; }
  /// [first, last) links of each level; links behind the last one are none's.
  const std::vector<std::pair<size_t, size_t>>& levels() const { return levels_; }
  bool normalises() const;

  /// Images before each link and after the last one.
  std::vector<ImageShape> shapes(ImageShape input) const;

  /// Links [first, last). factors: what GroupNorm::affine gives, for each of all links, empty where there is
  /// no norm; null: the norms are those of what they get. keep_open: a residual that is open at the end is
  /// wanted.
  Activations run(ForwardContext& ctx, Activations in, size_t first, size_t last, const Tensor* factors,
                  bool keep_open) const;

  /// Rows before link `first` that rows `out` behind link last − 1 depend on. A band begins at an even row:
  /// tiles of Winograd convolutions and halved rows lie in it as they do in the whole image.
  Rows input_rows(const std::vector<ImageShape>& shapes, size_t first, size_t last, Rows out) const;
  /// The row behind link last − 1 that a band's first one is, when `row` is the first one before link
  /// `first`.
  int64_t output_row(size_t first, size_t last, int64_t row) const;

 private:
  bool rises_;
  std::vector<Link> links_;
  std::vector<std::pair<size_t, size_t>> levels_;
};

}  // namespace nd
