// Convolution as an implicit matrix product over padded bands of rows: no im2col buffer, and the group
// normalisation and SiLU before it are applied while a band is copied, so the normalised activations never
// exist as a whole.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "nn/linear.h"
#include "nn/norm.h"
#include "nn/winograd.h"

namespace nd {

struct Conv2dOptions {
  int kernel = 3;  // square
  int stride = 1;
  int pad_before = 1;  // top and left
  int pad_after = 1;   // bottom and right (the KL encoder pads 0 and 1)
  bool upsample =
      false;  // nearest 2× before a 3×3 convolution, folded into four 2×2 ones: exact, 2.25× less work
  bool bias = true;
  bool sensitive = false;      // never int8
  bool winograd_int8 = false;  // Winograd::suits
};

class Conv2d {
 public:
  Conv2d() = default;
  Conv2d(Loader& loader, const std::string& name, int64_t in, int64_t out, Conv2dOptions options = {});

  const Conv2dOptions& options() const { return options_; }
  int64_t in() const { return in_; }
  int64_t out() const { return out_; }

  /// x: [n][h][w][in] → [n][h'][w'][out]. With `norm`, the layer convolves SiLU(norm(x)).
  Feature forward(Run& run, const Feature& x, const GroupNorm* norm = nullptr, const Fuse& fuse = {}) const;
  /// SiLU(norm(x)) convolved, + residual, written over the residual.
  Feature forward_onto(Run& run, const Feature& x, const GroupNorm* norm, Feature residual) const;
  /// The same two with the normalisation as GroupNorm::affine gives it, or empty for none: x may be a band of
  /// the image that it was taken from. Not for 1×1 convolutions.
  Feature forward_with(Run& run, const Feature& x, const Feature& factors, const Fuse& fuse = {}) const;
  Feature forward_onto_with(Run& run, const Feature& x, const Feature& factors, Feature residual,
                            bool relu_sum = false) const;
  /// A 1×1 convolution to fewer channels, written over x.
  Feature forward_in_place(Run& run, Feature x) const {
    return pointwise_.forward_in_place(run, std::move(x));
  }

 private:
  /// `out` is made if it is not there yet.
  void convolve(Run& run, const Feature& x, const Feature& factors, const Fuse& fuse, Feature& out) const;

  Conv2dOptions options_;
  int64_t in_ = 0, out_ = 0;
  Linear pointwise_;                // kernel 1 and stride 1: nothing but this
  std::vector<Winograd> winograd_;  // kernel 3 and stride 1 where it pays: nothing but this
  PackedMatrix weights_;            // one plane; four (row parity, column parity) when upsampling
  std::vector<float> bias_;
};

}  // namespace nd
