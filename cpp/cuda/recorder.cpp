#include "cuda/recorder.h"

#include <utility>

#include "core/cancel.h"

namespace nd::cuda {
namespace {

/// The first launch of a graph takes memory.
void launch_graph(const Device& device, GraphExecutableHandle executable, StreamHandle stream) {
  const Driver& driver = device.driver();
  check(driver, device.with_spare_blocks([&] { return driver.graph_launch(executable, stream); }),
        "Could not start a graph");
}

class GraphRecording final : public Recording {
 public:
  GraphRecording(Device& device, GraphExecutableHandle executable, std::vector<Recorder::Transfer> uploads,
                 std::vector<Recorder::Transfer> downloads)
      : device_(device),
        executable_(executable),
        uploads_(std::move(uploads)),
        downloads_(std::move(downloads)) {}
  ~GraphRecording() override {
    try {
      const Device::Current current(device_);
      device_.driver().executable_destroy(executable_);
    } catch (const Error&) {
      // The device is lost, and the graph with it.
    }
  }
  GraphRecording(const GraphRecording&) = delete;
  GraphRecording& operator=(const GraphRecording&) = delete;

  void replay(const CancelToken* cancel, ResidentTensors* resident) override {
    const Device::Current current(device_);
    const Device::Stream stream(device_);
    const auto check_cancel = [&] {
      if (cancel) cancel->check();
    };
    check_cancel();
    for (const Recorder::Transfer& upload : uploads_) upload(stream.staging(), resident);
    check_cancel();
    launch_graph(device_, executable_, stream.handle());
    check_cancel();
    for (const Recorder::Transfer& download : downloads_) download(stream.staging(), resident);
    stream.synchronize();
  }

 private:
  Device& device_;
  GraphExecutableHandle executable_;
  const std::vector<Recorder::Transfer> uploads_, downloads_;
};

}  // namespace

GraphExecutableHandle end_capture(const Device& device, StreamHandle stream) {
  const Driver& driver = device.driver();
  GraphHandle graph = nullptr;
  check(driver, driver.capture_end(stream, &graph), "Could not record");
  GraphExecutableHandle executable = nullptr;
  const Result made =
      device.with_spare_blocks([&] { return driver.graph_instantiate(&executable, graph, 0); });
  driver.graph_destroy(graph);
  check(driver, made, "Could not make a graph");
  return executable;
}

void discard_capture(const Driver& driver, StreamHandle stream) noexcept {
  GraphHandle graph = nullptr;
  if (driver.capture_end(stream, &graph) == kSuccess && graph) driver.graph_destroy(graph);
}

Recorder::~Recorder() {
  const Driver& driver = device_.driver();
  if (state_ == State::capturing) discard_capture(driver, stream_);  // it was cancelled, or failed
  if (executable_) driver.executable_destroy(executable_);
}

void Recorder::before_launch() {
  if (state_ == State::uploading) {
    check(device_.driver(), device_.driver().capture_begin(stream_, kCaptureThread), "Could not record");
    state_ = State::capturing;
  } else if (state_ == State::launched) {
    state_ = State::abandoned;
  }
}

void Recorder::before_upload(const Transfer& transfer) {
  if (state_ == State::uploading) return uploads_.push_back(transfer);
  if (state_ == State::capturing) launch();
  state_ = State::abandoned;
}

void Recorder::before_download(const Transfer& transfer) {
  if (state_ == State::uploading) state_ = State::abandoned;
  if (state_ == State::capturing) launch();
  if (state_ == State::launched) downloads_.push_back(transfer);
}

void Recorder::launch() {
  state_ = State::launched;
  executable_ = end_capture(device_, stream_);
  launch_graph(device_, executable_, stream_);
}

std::unique_ptr<Recording> Recorder::finish() {
  if (state_ == State::capturing) launch();
  if (state_ != State::launched) return nullptr;
  auto recording =
      std::make_unique<GraphRecording>(device_, executable_, std::move(uploads_), std::move(downloads_));
  executable_ = nullptr;
  return recording;
}

}  // namespace nd::cuda
