// Two tensors side by side in channels: what comes from below in a decoder, and a skip connection. A backend
// can have layers read both where they lie, so that no concatenation is written.
#pragma once
#include <cstdint>
#include <utility>

#include "nn/tensor.h"

namespace nd {

/// The channels of one tensor, then those of another with as many images, rows and columns.
class JoinedTensor {
 public:
  /// Where `first` is empty, both are `second`.
  JoinedTensor(Tensor first, Tensor second) : first_(std::move(first)), second_(std::move(second)) {}

  const Tensor& first() const { return first_ ? first_ : second_; }
  const Tensor& second() const { return second_; }
  int64_t channels() const { return first().c + second_.c; }

  /// A copy in one tensor.
  Tensor concatenated(ForwardContext& ctx) const;
  /// The same, which takes the place of the two: their memory is released.
  Tensor take_concatenated(ForwardContext& ctx);
  void release() { first_.release(), second_.release(); }

 private:
  Tensor first_, second_;
};

}  // namespace nd
