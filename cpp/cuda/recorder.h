// A forward as a CUDA graph: uploads, then all kernels as one graph, then downloads.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "cuda/device.h"
#include "nn/backend.h"

namespace nd::cuda {

/// Ends a capture; what the stream was given, as a graph that can be launched.
GraphExecutableHandle end_capture(const Device& device, StreamHandle stream);
/// Ends a capture of which nothing is wanted.
void discard_capture(const Driver& driver, StreamHandle stream) noexcept;

/// Captures a forward while it is run. The kernels run as a graph the first time as well.
class Recorder {
 public:
  /// `resident`: see Recording::replay().
  using Transfer = std::function<void(Staging&, ResidentTensors* resident)>;

  Recorder(Device& device, StreamHandle stream) : device_(device), stream_(stream) {}
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  void before_launch();
  void before_upload(const Transfer& transfer);
  void before_download(const Transfer& transfer);
  /// What was recorded, once the forward is complete; null where its transfers are not all before the first
  /// kernel or after the last one.
  std::unique_ptr<Recording> finish();

 private:
  enum class State { uploading, capturing, launched, abandoned };
  /// Ends the capture and launches the graph.
  void launch();

  Device& device_;
  StreamHandle stream_;
  State state_ = State::uploading;
  std::vector<Transfer> uploads_, downloads_;
  GraphExecutableHandle executable_ = nullptr;
};

}  // namespace nd::cuda
