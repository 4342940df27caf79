// Tensors that a denoising run keeps in the device's memory from one forward to the next: the residuals of
// ControlNets, the features of T2I-Adapters, the embedded picture of a ControlNet.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "nn/tensor.h"

namespace nd {

/// Each run owns its own, so that no other call can change them. A forward that fills them says what it will
/// keep while it is measured, and allocates it when it computes.
class KeptTensors {
 public:
  /// While measuring: there will be a tensor `index` of this shape. Indices are counted up from 0.
  void expect(size_t index, int64_t n, int64_t h, int64_t w, int64_t c);
  /// The memory of all expected tensors; what was kept before is lost if their shapes differ. Error
  /// out_of_memory.
  void allocate(ForwardContext& ctx);

  /// Of what was kept.
  size_t count() const { return allocated_.size(); }
  /// Whether tensors of this memory were kept.
  bool in(const Memory& memory) const { return memory_ == &memory && base_; }
  /// Tensor `index`, for a forward to read or write.
  Tensor view(size_t index) const;
  /// Appends where the tensors lie and their shapes: what the arguments of kernels that read them depend on.
  void describe(std::vector<uint64_t>& key) const;
  size_t bytes(size_t element_bytes) const;

  /// Held for the length of a call: two models could be given the same tensors at once.
  mutable std::mutex mutex;

 private:
  struct Shape {
    int64_t n = 0, h = 0, w = 0, c = 0;
    bool operator==(const Shape& other) const {
      return n == other.n && h == other.h && w == other.w && c == other.c;
    }
  };
  static size_t bytes_of(const Shape& shape, size_t element_bytes);

  std::vector<Shape> shapes_, allocated_;
  std::vector<size_t> offsets_;
  std::unique_ptr<Arena> arena_;
  Memory* memory_ = nullptr;
  Address base_;
};

}  // namespace nd
