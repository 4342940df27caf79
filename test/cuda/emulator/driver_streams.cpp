#include "driver_streams.h"

#include <utility>

namespace emu {

using namespace nd::cuda;

namespace {

using Graph = std::vector<std::function<Result()>>;

}  // namespace

Stream* capturing(StreamHandle handle) {
  Stream* stream = reinterpret_cast<Stream*>(handle);
  return stream && stream->capturing ? stream : nullptr;
}

Result stream_create(StreamHandle* stream, unsigned) {
  if (usable() != kSuccess) return usable();
  const std::lock_guard<std::mutex> lock(mutex);
  Stream* made = new Stream;
  made->context = current_context();
  keep(made);
  *stream = reinterpret_cast<StreamHandle>(made);
  return kSuccess;
}
Result stream_destroy(StreamHandle stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!forget(reinterpret_cast<Stream*>(stream))) return 400;  // CUDA_ERROR_INVALID_HANDLE
  delete reinterpret_cast<Stream*>(stream);
  return usable();
}
Result stream_synchronize(StreamHandle stream) {
  return capturing(stream) ? kCaptureUnsupported : usable(stream);
}
Result capture_begin(StreamHandle handle, int) {
  Stream* stream = reinterpret_cast<Stream*>(handle);
  if (!stream || stream->capturing) return kCaptureUnsupported;
  stream->capturing = true;
  ++captures();
  return usable();
}
Result capture_end(StreamHandle handle, GraphHandle* graph) {
  Stream* stream = capturing(handle);
  if (!stream) return kCaptureUnsupported;
  stream->capturing = false;
  --captures();
  *graph = reinterpret_cast<GraphHandle>(new Graph(std::move(stream->captured)));
  stream->captured.clear();
  const std::lock_guard<std::mutex> lock(mutex);
  ++driver_counts.graphs;
  return usable();
}
Result graph_destroy(GraphHandle graph) {
  delete reinterpret_cast<Graph*>(graph);
  const std::lock_guard<std::mutex> lock(mutex);
  --driver_counts.graphs;
  return usable();
}
Result graph_instantiate(GraphExecutableHandle* executable, GraphHandle graph, unsigned long long) {
  *executable = reinterpret_cast<GraphExecutableHandle>(new Graph(*reinterpret_cast<Graph*>(graph)));
  const std::lock_guard<std::mutex> lock(mutex);
  ++driver_counts.graphs;
  return usable();
}
Result executable_destroy(GraphExecutableHandle executable) {
  return graph_destroy(reinterpret_cast<GraphHandle>(executable));
}
Result graph_launch(GraphExecutableHandle executable, StreamHandle stream) {
  if (usable(stream) != kSuccess) return usable(stream);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ++driver_counts.graph_launches;
  }
  for (const std::function<Result()>& node : *reinterpret_cast<Graph*>(executable))
    if (const Result result = node(); result != kSuccess) return result;
  return usable();
}
Result event_create(EventHandle* event, unsigned) {
  if (usable() != kSuccess) return usable();
  const std::lock_guard<std::mutex> lock(mutex);
  Event* made = new Event{current_context(), {}, 0};
  keep(made);
  *event = reinterpret_cast<EventHandle>(made);
  return kSuccess;
}
Result event_destroy(EventHandle event) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (!forget(reinterpret_cast<Event*>(event))) return 400;  // CUDA_ERROR_INVALID_HANDLE
  delete reinterpret_cast<Event*>(event);
  return usable();
}
Result event_record(EventHandle event, StreamHandle stream) {
  if (usable(stream) != kSuccess) return usable(stream);
  Event& e = *reinterpret_cast<Event*>(event);
  e.time = std::chrono::steady_clock::now();
  if (stream) e.microseconds = reinterpret_cast<Stream*>(stream)->microseconds;
  return kSuccess;
}
Result event_query(EventHandle) {
  if (driver_options.never_ready) return kNotReady;
  return usable();
}
Result event_synchronize(EventHandle) {
  return usable();
}
Result event_elapsed(float* milliseconds, EventHandle from, EventHandle to) {
  const Event &begin = *reinterpret_cast<Event*>(from), &end = *reinterpret_cast<Event*>(to);
  *milliseconds = driver_options.launch_time
                      ? static_cast<float>((end.microseconds - begin.microseconds) * 1e-3)
                      : std::chrono::duration<float, std::milli>(end.time - begin.time).count();
  return usable();
}

}  // namespace emu
