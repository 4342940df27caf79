// Moments of a tensor's channels, which its producer takes while it writes them, for the group normalization
// that follows. Layers are told where one follows (Conv2dOptions::feeds_group_norm), since moments take time
// in the epilogue and memory, a twentieth of the tensor's.
#pragma once
#include "cuda/context.h"
#include "cuda/layers/product_plan.h"

namespace nd::cuda {

/// Moments that lie beside a tensor as long as it lives. They are known until anything writes into the
/// tensor. Where they lie and how large they are does not depend on that, which is not the same while memory
/// is measured.
class TensorMoments final : public TensorStatistics {
 public:
  TensorMoments(Context& ctx, const Tensor& x, int64_t capacity);
  ~TensorMoments() override { ctx_.remove(watch_); }
  TensorMoments(const TensorMoments&) = delete;
  TensorMoments& operator=(const TensorMoments&) = delete;

  /// x's, or null.
  static TensorMoments* of(const Tensor& x) { return static_cast<TensorMoments*>(x.statistics()); }
  /// x's, with room for this many pieces of each image.
  static TensorMoments& beside(Context& ctx, const Tensor& x, int64_t capacity);

  float* data() const { return moments_.data(); }
  int64_t capacity() const { return capacity_; }
  /// How many pieces of each image there are; 0: they are not known.
  int64_t pieces() const { return watch_.unchanged ? pieces_ : 0; }
  /// Kernels that were launched take those of x as it is now.
  void taken(int64_t pieces) { pieces_ = pieces, watch_.unchanged = true; }

 private:
  Context& ctx_;
  Watch watch_;
  const int64_t capacity_;
  int64_t pieces_ = 0;
  const Scratch<float> moments_;  // [n][pieces][3][c]
};

/// Has the plan take moments if no tile crosses images, or if tiles can begin at each image at little cost.
void plan_moments(ProductPlan& plan, const ProductArgs& args);

/// What a normalization reads: a tensor and its moments, which are taken now where they are not known.
class MeasuredInput {
 public:
  MeasuredInput(Context& ctx, const Tensor& x);
  const NormInput& get() const { return input_; }
  /// Moments of an image at most (those of a channel's piece are one), whether or not they were known.
  int64_t max_moments() const { return max_pieces_ * input_.c; }

 private:
  NormInput input_{};
  int64_t max_pieces_;
  std::unique_ptr<Scratch<float>> own_;  // where x has none beside it
};

}  // namespace nd::cuda
