#include "convert.h"

#include "arguments.h"
#include "cancel_token.h"
#include "core/error.h"
#include "core/thread_pool.h"
#include "failure.h"
#include "job.h"
#include "engine_limits.h"
#include "cpu/backend.h"
#include "weights/convert.h"
#include "source.h"

namespace nd_binding {
namespace {

/// Bytes of the result, by the description of the tensor; build() checks that against the file.
int64_t result_bytes(const Source::Tensor& entry, nd::TensorType type, bool channels_last, int64_t first,
                     int64_t count) {
  nd::StoredTensor tensor;
  tensor.name = entry.name;
  tensor.shape = entry.shape;
  const int64_t rows = nd::conversion_rows(tensor);
  if (count > rows - first) {
    throw nd::Error(nd::ErrorCode::invalid_argument,
                    "Expected at most " + std::to_string(rows) + " rows in tensor " + entry.name +
                        " but received " + std::to_string(first) + " and " + std::to_string(count) + " more");
  }
  return count * nd::converted_row_bytes(tensor, type, channels_last);
}

}  // namespace

Napi::Value convert_rows(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto source = std::make_shared<Source>(Source::read(info[0], "source"));
    if (source->tensors.size() != 1) {
      throw nd::Error(nd::ErrorCode::invalid_argument, "Expected 1 element in source.tensors but received " +
                                                           std::to_string(source->tensors.size()));
    }
    const nd::TensorType type = nd::tensor_type(to_string(info[1], "type"));
    const bool channels_last = to_boolean(info[2], "channelsLast");
    const int64_t first = to_integer(info[3], "first", 0, Limits::dimension);
    const int64_t count = to_integer(info[4], "count", 1, Limits::dimension);
    auto token = CancelTokenWrap::from(info[5], "cancel");
    const Output<uint8_t> bytes(info.Env(),
                                result_bytes(source->tensors[0], type, channels_last, first, count));
    auto error = std::make_shared<nd::ConversionError>();
    return run_async(
        info.Env(), std::move(token),
        [=](const nd::CancelToken& cancel) {
          // The file is opened for this call only, so that nothing has to be disposed.
          const nd::WeightTable table = source->build();
          *error = nd::convert_rows(
              nd::adapted(table.find(source->tensors[0].name), nd::cpu::CpuBackend::shared().decoders()),
              type, channels_last, first, count, nd::cpu::CpuBackend::shared().decoders(),
              nd::ThreadPool::shared(), &cancel, bytes.data());
        },
        [bytes, error](Napi::Env env) -> Napi::Value {
          Napi::Object result = Napi::Object::New(env);
          result.Set("bytes", bytes.value());
          result.Set("squaredError", error->squared_error);
          result.Set("squaredNorm", error->squared_norm);
          return result;
        });
  });
}

}  // namespace nd_binding
