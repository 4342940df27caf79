// Streams, graphs and events of the emulated driver.
#pragma once
#include "driver_contexts.h"

namespace emu {

using nd::cuda::EventHandle;
using nd::cuda::GraphExecutableHandle;
using nd::cuda::GraphHandle;

constexpr Result kCaptureUnsupported = 900;

/// The stream whose operation this thread runs; of a graph, the one that it was launched in.
extern thread_local Stream* running_stream;

/// The stream, if it captures what it is given.
Stream* capturing(StreamHandle handle);

/// Puts an operation behind those of a stream, which is not capturing.
Result enqueue(StreamHandle stream, Operation operation);
/// Does all that a stream has to do.
void work_off(Stream& stream);

Result stream_create(StreamHandle* stream, unsigned flags);
Result stream_destroy(StreamHandle stream);
Result stream_synchronize(StreamHandle stream);
Result capture_begin(StreamHandle handle, int mode);
Result capture_end(StreamHandle handle, GraphHandle* graph);
Result graph_destroy(GraphHandle graph);
Result graph_instantiate(GraphExecutableHandle* executable, GraphHandle graph, unsigned long long flags);
Result executable_destroy(GraphExecutableHandle executable);
Result graph_launch(GraphExecutableHandle executable, StreamHandle stream);
Result event_create(EventHandle* event, unsigned flags);
Result event_destroy(EventHandle event);
Result event_record(EventHandle event, StreamHandle stream);
Result event_query(EventHandle event);
Result event_synchronize(EventHandle event);
Result event_elapsed(float* milliseconds, EventHandle from, EventHandle to);

}  // namespace emu
