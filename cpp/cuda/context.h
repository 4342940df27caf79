// A forward pass on a GPU: the stream that its kernels go to, and its memory as pointers.
#pragma once
#include "core/arena.h"
#include "cuda/device.h"
#include "nn/backend.h"
#include "nn/tensor.h"

namespace nd::cuda {

struct Context : ForwardContext {
  Device& device;
  StreamHandle stream;

  Context(const ForwardContext& base, Device& device, StreamHandle stream)
      : ForwardContext(base), device(device), stream(stream) {}
  /// The context that CudaBackend::run made.
  static Context& of(ForwardContext& ctx) { return static_cast<Context&>(ctx); }

  /// Puts a kernel behind those that were launched before; nothing while measuring. Throws Cancelled.
  template <class Arguments>
  void launch(Kernel kernel, const Grid& grid, const Arguments& arguments) const {
    if (measuring()) return;
    if (cancel) cancel->check();
    device.launch(stream, kernel, grid, arguments);
  }
};

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address.value);
}
inline half* data(const Tensor& x) {
  return pointer<half>(x.address());
}
inline int64_t pieces_of(int64_t total, int64_t piece) {
  return (total + piece - 1) / piece;
}
inline int32_t narrow(int64_t x) {
  return static_cast<int32_t>(x);
}

/// An array of another type than fp16 in the forward's arena, for as long as this object lives. What the
/// stream still does with it comes before what is put there next.
template <class T>
class Scratch : public ArenaBlock {
 public:
  Scratch(ForwardContext& ctx, int64_t count)
      : ArenaBlock(ctx.arena, sizeof(T) * static_cast<size_t>(count)) {}
  T* data() const { return pointer<T>(address()); }
};

}  // namespace nd::cuda
