#include "configs.h"
#include "engine_limits.h"
#include "models.h"

namespace nd_binding {
Napi::Value TextEncoderWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_text_encoder_config(info[0])); });
}

Napi::Value TextEncoderWrap::working_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields call(info[0], "call");
  const int64_t n = call.integer("n", 1, Limits::batch);
  const int64_t length = call.integer("length", 1, shared->model().config().max_positions);
  const size_t bytes = shared->model().working_bytes(n, length);
  return bytes_value(info.Env(), bytes);
}

Napi::Value TextEncoderWrap::encode(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::TextEncoderConfig& config = shared->model().config();
  const Fields call(info[0], "call");
  nd::TextInput input;
  input.n = call.integer("n", 1, Limits::batch);
  input.length = call.integer("length", 1, config.max_positions);
  input.skip = call.integer("skip", 0, config.layers);
  if (call.has("finalNorm")) input.final_norm = call.boolean("finalNorm");
  const int64_t rows = batch_pixels(input.n, 1, input.length);
  auto tokens = std::make_shared<std::vector<int32_t>>(call.ints("tokens", rows));
  auto positions = std::make_shared<std::vector<int32_t>>();
  auto vectors = std::make_shared<std::vector<float>>();
  if (call.has("vectors")) {
    input.vector_count = call.integer("vectorCount", 1, rows);
    *vectors = call.floats("vectors", input.vector_count * config.width);
  }
  if (call.has("pooledPositions")) *positions = call.ints("pooledPositions", input.n);
  // The hidden states, then the pooled output.
  const int64_t hidden = rows * config.width,
                pooled = positions->empty() ? 0 : input.n * config.pooled_width();
  return compute<float>(info.Env(), shared, info[1], hidden + pooled,
                        [=](nd::TextEncoder& model, float* out, const nd::CancelToken& cancel) {
                          nd::TextInput given = input;
                          given.tokens = tokens->data();
                          given.vectors = vectors->data();
                          given.pooled_positions = positions->empty() ? nullptr : positions->data();
                          model.encode(given, out, out + hidden, &cancel);
                        });
}

const NativeMember TextEncoderWrap::kMembers[2] = {
    {NativeMember::Kind::method, "encode", encode},
    {NativeMember::Kind::method, "workingBytes", working_bytes},
};

const NativeClass TextEncoderWrap::kClass = {
    "NativeTextEncoder", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
