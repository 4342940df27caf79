// A forward pass on the CPU: the kernels and threads that layers use, and addresses as pointers.
#pragma once
#include <cstdint>
#include <utility>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/kernels/kernels.h"
#include "nn/tensor.h"

namespace nd::cpu {

/// The kernels and the threads that layers are made with and run on.
struct Device {
  const Kernels& kernels;
  ThreadPool& pool;
};

struct Context : ForwardContext {
  const Kernels& kernels;
  ThreadPool& pool;

  Context(const ForwardContext& base, const Device& device)
      : ForwardContext(base), kernels(device.kernels), pool(device.pool) {}
  /// The context that CpuBackend::run made.
  static Context& of(ForwardContext& ctx) { return static_cast<Context&>(ctx); }

  /// Calls task(index, thread) for each index, or nothing while memory is being planned.
  template <class Task>
  void parallel(int64_t count, Task&& task) {
    if (!measuring()) pool.parallel_for(count, cancel, std::forward<Task>(task));
  }
};

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address.value);
}
inline Address address_of(const void* p) {
  return {reinterpret_cast<uintptr_t>(p)};
}
/// The elements of a tensor, which are float32 on this device.
inline float* data(const Tensor& x) {
  return pointer<float>(x.address());
}

/// An array in the forward's arena (offsets, packed keys) that lives as long as this object.
template <class T>
class Scratch : public ArenaBlock {
 public:
  Scratch(ForwardContext& ctx, int64_t count)
      : ArenaBlock(ctx.arena, sizeof(T) * static_cast<size_t>(count)) {}
  T* data() const { return pointer<T>(address()); }
};

}  // namespace nd::cpu
