// The T2I-Adapter.
#include "configs.h"
#include "kept.h"
#include "models.h"
#include "unet_call.h"

namespace nd_binding {

Napi::Value T2iAdapterWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_t2i_adapter_config(info[0])); });
}

Napi::Value T2iAdapterWrap::features(NativeObject& self, const Napi::CallbackInfo& info) {
  return bytes_value(info.Env(), model_of(self)->model().features());
}

Napi::Value T2iAdapterWrap::embed(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const int64_t floats = sizes.pixels * shared->model().config().image_channels;
  const auto pictures = std::make_shared<const std::vector<float>>(fields.floats("pictures", floats));
  const auto to = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
  return call(info.Env(), shared, info[1], [=](nd::T2iAdapter& model, const nd::CancelToken& cancel) {
    model.embed(pictures->data(), sizes.n, sizes.h, sizes.w, *to, &cancel);
  });
}

Napi::Value T2iAdapterWrap::memory(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const BatchSizes sizes = read_batch_sizes(Fields(info[0], "call"));
  const nd::T2iAdapterMemory memory = shared->model().memory(sizes.n, sizes.h, sizes.w);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("working", bytes_value(info.Env(), memory.working));
  result.Set("features", bytes_value(info.Env(), memory.features));
  return result;
}

const NativeMember T2iAdapterWrap::kMembers[3] = {
    {NativeMember::Kind::getter, "features", features},
    {NativeMember::Kind::method, "embed", embed},
    {NativeMember::Kind::method, "memory", memory},
};

const NativeClass T2iAdapterWrap::kClass = {
    "NativeT2iAdapter", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
