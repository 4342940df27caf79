// A forward pass on a GPU: the stream that its kernels go to, and its memory as pointers.
#pragma once
#include "core/arena.h"
#include "cuda/device.h"
#include "cuda/limits.h"
#include "cuda/recorder.h"
#include "nn/backend.h"
#include "nn/tensor.h"

namespace nd::cuda {

struct Context : ForwardContext {
  Device& device;
  StreamHandle stream;
  Recorder* recorder;  // null where the forward is not recorded

  Context(const ForwardContext& base, Device& device, StreamHandle stream, Recorder* recorder = nullptr)
      : ForwardContext(base), device(device), stream(stream), recorder(recorder) {}
  /// The context that CudaBackend::run made.
  static Context& of(ForwardContext& ctx) { return static_cast<Context&>(ctx); }

  /// Puts a kernel behind those that were launched before; nothing while measuring. Throws Cancelled.
  /// Error invalid_argument: the grid is too large.
  template <class Arguments>
  void launch(Kernel kernel, const Grid& grid, const Arguments& arguments) const {
    check_grid(grid);
    if (measuring()) return;
    if (cancel) cancel->check();
    if (recorder) recorder->before_launch();
    device.launch(stream, kernel, grid, arguments);
  }
  /// transfer(stream) copies from the host or to it; nothing while measuring. It is called again when a
  /// recorded forward is repeated, so it holds addresses and no references.
  template <class Transfer>
  void to_device(const Transfer& transfer) const {
    if (measuring()) return;
    if (recorder) recorder->before_upload(transfer);
    transfer(stream);
  }
  template <class Transfer>
  void to_host(const Transfer& transfer) const {
    if (measuring()) return;
    if (cancel) cancel->check();
    if (recorder) recorder->before_download(transfer);
    transfer(stream);
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
