// ControlLLLite.
#include "configs.h"
#include "kept.h"
#include "models.h"
#include "unet_call.h"

namespace nd_binding {

Napi::Value ControlLlliteWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_control_lllite_config(info[0])); });
}

std::shared_ptr<const nd::InputNetworks> ControlLlliteWrap::networks(Napi::Value value,
                                                                     const std::string& name) {
  const NativeObject* const object = NativeObject::find(value, kClass);
  if (!object) throw TypeFailure{std::string("Expected ") + kClass.name + " for " + name};
  const Pointer shared = model_of(*object);
  if (shared->planned())
    throw nd::Error(nd::ErrorCode::invalid_argument, "A planned model has no weights to compute with");
  return {shared, &shared->model()};
}

Napi::Value ControlLlliteWrap::factor(NativeObject& self, const Napi::CallbackInfo& info) {
  return bytes_value(info.Env(), model_of(self)->model().factor());
}

Napi::Value ControlLlliteWrap::embed(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const int64_t floats = sizes.pixels * shared->model().config().image_channels;
  const auto pictures = std::make_shared<const std::vector<float>>(fields.floats("pictures", floats));
  const auto to = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
  return call(info.Env(), shared, info[1], [=](nd::ControlLllite& model, const nd::CancelToken& cancel) {
    model.embed(pictures->data(), sizes.n, sizes.h, sizes.w, *to, &cancel);
  });
}

Napi::Value ControlLlliteWrap::memory(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const Fields fields(info[0], "call");
  const BatchSizes sizes = read_batch_sizes(fields);
  const int64_t rows = fields.integer("rows", 1, Limits::batch);
  const nd::ControlLlliteMemory memory = shared->model().memory(sizes.n, sizes.h, sizes.w, rows);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("embedding", bytes_value(info.Env(), memory.embedding));
  result.Set("forward", bytes_value(info.Env(), memory.forward));
  result.Set("kept", bytes_value(info.Env(), memory.kept));
  return result;
}

const NativeMember ControlLlliteWrap::kMembers[3] = {
    {NativeMember::Kind::getter, "factor", factor},
    {NativeMember::Kind::method, "embed", embed},
    {NativeMember::Kind::method, "memory", memory},
};

const NativeClass ControlLlliteWrap::kClass = {
    "NativeControlLllite", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
