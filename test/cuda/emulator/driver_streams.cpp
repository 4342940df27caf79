#include "driver_streams.h"

#include <utility>

namespace emu {

using namespace nd::cuda;

thread_local Stream* running_stream = nullptr;

namespace {

using Graph = std::vector<Operation>;

/// Whether a stream goes on at once, see DriverOptions.
bool goes_on() {
  thread_local uint32_t random = 1;
  const uint32_t seed = driver_options.seed;
  random = random * 1664525 + 1013904223 + seed;
  return seed == 1 || (seed > 1 && random >> 31);
}

/// Does what is pending until there is nothing, or until done().
template <class Done>
void work_off(Stream& stream, const Done& done) {
  const std::lock_guard<std::mutex> running(stream.running);
  while (!done()) {
    Operation next;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (stream.context->lost) stream.pending.clear();
      if (stream.pending.empty()) return;
      next = std::move(stream.pending.front());
      stream.pending.pop_front();
    }
    running_stream = &stream;
    next.run();
  }
}

}  // namespace

void work_off(Stream& stream) {
  work_off(stream, [] { return false; });
}

Result enqueue(StreamHandle handle, Operation operation) {
  Stream& stream = stream_of(handle);
  {
    const std::lock_guard<std::mutex> lock(mutex);
    driver_counts.launches += operation.launches;
    stream.pending.push_back(std::move(operation));
  }
  if (goes_on()) work_off(stream);
  return kSuccess;  // as on a device, later calls tell of errors
}

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
  work_off(*reinterpret_cast<Stream*>(stream));
  const std::lock_guard<std::mutex> lock(mutex);
  if (!forget(reinterpret_cast<Stream*>(stream))) return 400;  // CUDA_ERROR_INVALID_HANDLE
  delete reinterpret_cast<Stream*>(stream);
  return usable();
}
Result stream_synchronize(StreamHandle stream) {
  if (capturing(stream)) return kCaptureUnsupported;
  if (usable(stream) != kSuccess) return usable(stream);
  work_off(stream_of(stream));
  return usable(stream);
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
  if (driver_options.fail_graphs > 0) {
    --driver_options.fail_graphs;
    return kOutOfMemory;
  }
  *executable = reinterpret_cast<GraphExecutableHandle>(new Graph(*reinterpret_cast<Graph*>(graph)));
  const std::lock_guard<std::mutex> lock(mutex);
  ++driver_counts.graphs;
  ++driver_counts.executables;
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
  for (const Operation& node : *reinterpret_cast<Graph*>(executable)) enqueue(stream, node);
  return usable();
}
Result event_create(EventHandle* event, unsigned flags) {
  if (usable() != kSuccess) return usable();
  const std::lock_guard<std::mutex> lock(mutex);
  Event* made = new Event{current_context(), std::make_shared<Moment>(), !(flags & kNoTiming)};
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
Result event_record(EventHandle event, StreamHandle handle) {
  if (capturing(handle)) return kCaptureUnsupported;
  if (usable(handle) != kSuccess) return usable(handle);
  Stream& stream = stream_of(handle);
  const std::shared_ptr<Moment> moment = reinterpret_cast<Event*>(event)->moment;
  if (reinterpret_cast<Event*>(event)->tells_time) stream.tells_time = true;
  moment->stream = &stream;
  ++moment->recorded;
  return enqueue(handle, {[moment, &stream] {
                   moment->time = std::chrono::steady_clock::now();
                   moment->microseconds = stream.microseconds;
                   ++moment->reached;
                   return kSuccess;
                 }});
}
Result event_query(EventHandle event) {
  if (driver_options.never_ready) return kNotReady;
  return event_synchronize(event);
}
Result event_synchronize(EventHandle event) {
  const std::shared_ptr<Moment> moment = reinterpret_cast<Event*>(event)->moment;
  // The stream may be no more.
  if (usable() != kSuccess || moment->reached == moment->recorded) return usable();
  work_off(*moment->stream, [&] { return moment->reached == moment->recorded; });
  return usable();
}
Result event_elapsed(float* milliseconds, EventHandle from, EventHandle to) {
  const Moment &begin = *reinterpret_cast<Event*>(from)->moment, &end = *reinterpret_cast<Event*>(to)->moment;
  *milliseconds = driver_options.launch_time
                      ? static_cast<float>((end.microseconds - begin.microseconds) * 1e-3)
                      : std::chrono::duration<float, std::milli>(end.time - begin.time).count();
  return usable();
}

}  // namespace emu
