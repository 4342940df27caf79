// A forward pass on a GPU: the stream that its kernels go to, and its memory as pointers.
#pragma once
#include <algorithm>
#include <vector>

#include "core/arena.h"
#include "cuda/device.h"
#include "cuda/limits.h"
#include "cuda/recorder.h"
#include "cuda/written.h"
#include "nn/backend.h"
#include "nn/tensor.h"

namespace nd::cuda {

/// Memory of which something is known until a forward writes there.
struct Watch {
  Address begin;
  size_t bytes = 0;
  bool unchanged = false;
};

struct Context : ForwardContext {
  Device& device;
  StreamHandle stream;
  Staging* staging;    // of the stream; null while measuring
  Recorder* recorder;  // null where the forward is not recorded
  std::vector<Watch*> watches{};

  /// One that measures.
  Context(const ForwardContext& base, Device& device)
      : ForwardContext(base), device(device), stream(nullptr), staging(nullptr), recorder(nullptr) {}
  Context(const ForwardContext& base, Device& device, const Device::Stream& stream,
          Recorder* recorder = nullptr)
      : ForwardContext(base),
        device(device),
        stream(stream.handle()),
        staging(&stream.staging()),
        recorder(recorder) {}
  /// The context that CudaBackend::run made.
  static Context& of(ForwardContext& ctx) { return static_cast<Context&>(ctx); }

  /// Puts a kernel behind those that were launched before; nothing while measuring. Throws Cancelled.
  /// Error invalid_argument: the grid is too large.
  template <class Arguments>
  void launch(Kernel kernel, const Grid& grid, const Arguments& arguments) {
    check_grid(grid);
    wrote({reinterpret_cast<uintptr_t>(written(arguments))});
    if (measuring()) return;
    if (cancel) cancel->check();
    if (recorder) recorder->before_launch();
    device.launch(stream, kernel, grid, arguments);
  }
  /// Copies between places in the device's memory.
  void copy(Address to, Address from, size_t bytes) {
    wrote(to);
    if (measuring()) return;
    if (recorder) recorder->before_launch();
    device.copy(to, from, bytes, stream);
  }
  /// transfer(Staging&) copies from the host to `to` and behind, or to the host; nothing while measuring. It
  /// is called again when a recorded forward is repeated, so it holds addresses and no references.
  template <class Transfer>
  void to_device(Address to, const Transfer& transfer) {
    wrote(to);
    if (measuring()) return;
    if (recorder) recorder->before_upload([transfer](Staging& own, ResidentTensors*) { transfer(own); });
    transfer(*staging);
  }
  /// transfer(Staging&, ResidentTensors*) puts what is staged for these tensors, or, when a recorded forward
  /// is repeated, for those of that time.
  template <class Transfer>
  void to_device_for(ResidentTensors& resident, const Transfer& transfer) {
    if (measuring()) return;
    if (recorder) recorder->before_upload(transfer);
    transfer(*staging, &resident);
  }
  template <class Transfer>
  void to_host(const Transfer& transfer) const {
    if (measuring()) return;
    if (cancel) cancel->check();
    if (recorder) recorder->before_download([transfer](Staging& own, ResidentTensors*) { transfer(own); });
    transfer(*staging);
  }

  void add(Watch& watch) { watches.push_back(&watch); }
  void remove(Watch& watch) noexcept { watches.erase(std::find(watches.begin(), watches.end(), &watch)); }

 private:
  /// Whatever writes begins within what it changes.
  void wrote(Address address) const {
    for (Watch* watch : watches)
      if (address.value - watch->begin.value < watch->bytes) watch->unchanged = false;
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
