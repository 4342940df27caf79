// Activations, and the forward pass that they belong to. Models pass tensors from layer to layer and never
// look behind their addresses: the numbers may lie in another device's memory.
#pragma once
#include <cstdint>
#include <memory>
#include <utility>

#include "core/arena.h"
#include "core/cancel.h"
#include "nn/profile.h"

namespace nd {

class Backend;

/// One forward pass: whose layers compute it, where its memory comes from, how it is cancelled. Each backend
/// extends it by what its layers need.
struct ForwardContext {
  Backend& backend;
  Arena& arena;
  const CancelToken* cancel = nullptr;
  Profile* profile = nullptr;  // null unless the forward is profiled

  /// While true, memory is only being planned: nothing may be read or written.
  bool measuring() const { return arena.measuring(); }
};

/// What a backend knows of a tensor's numbers and keeps beside them: see Tensor::keep().
class TensorStatistics {
 public:
  virtual ~TensorStatistics() = default;
};

/// Activations in the forward's arena, [n][h][w][c] row-major (NHWC), of the backend's element type. A
/// sequence of tokens is h = 1, w = length. Owns its memory, unless it is borrowed; moves, never copies.
class Tensor {
 public:
  Tensor() = default;
  Tensor(ForwardContext& ctx, int64_t n, int64_t h, int64_t w, int64_t c);
  /// A view of memory that outlives the forward.
  static Tensor borrowed(Address address, int64_t n, int64_t h, int64_t w, int64_t c) {
    Tensor tensor;
    tensor.n = n, tensor.h = h, tensor.w = w, tensor.c = c;
    tensor.address_ = address;
    return tensor;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;
  Tensor(Tensor&& other) noexcept { *this = std::move(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    if (this != &other) {
      release();
      n = other.n, h = other.h, w = other.w, c = other.c;
      arena_ = other.arena_;
      address_ = std::exchange(other.address_, Address{});
      statistics_ = std::move(other.statistics_);
    }
    return *this;
  }
  ~Tensor() { release(); }

  Address address() const { return address_; }
  explicit operator bool() const { return static_cast<bool>(address_); }
  int64_t pixels() const { return h * w; }  // of one image
  int64_t rows() const { return n * h * w; }
  int64_t size() const { return n * h * w * c; }
  void release() {
    statistics_.reset();
    if (address_ && arena_) arena_->release(address_);
    address_ = {};
  }

  /// Keeps the statistics for as long as the tensor has its memory. Constant, as tensors are for what writes
  /// their numbers; views have none.
  void keep(std::unique_ptr<TensorStatistics> statistics) const { statistics_ = std::move(statistics); }
  TensorStatistics* statistics() const { return statistics_.get(); }

  int64_t n = 0, h = 0, w = 0, c = 0;

 private:
  Arena* arena_ = nullptr;
  Address address_;
  mutable std::unique_ptr<TensorStatistics> statistics_;
};

}  // namespace nd
