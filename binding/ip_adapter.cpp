// IP-Adapters.
#include "configs.h"
#include "engine_limits.h"
#include "kept.h"
#include "models.h"

namespace nd_binding {
namespace {

/// The sizes of a prompt: `count`, `images`, `rows` and, with a mask, `h` and `w`.
nd::ImagePromptInput read_sizes(const Fields& call) {
  nd::ImagePromptInput input;
  input.count = call.integer("count", 1, Limits::images);
  input.images = call.integer("images", 1, Limits::images);
  input.rows = call.integer("rows", 1, Limits::positions);
  if (!call.has("h")) return input;
  input.h = call.integer("h", 1, Limits::side);
  input.w = call.integer("w", 1, Limits::side);
  batch_pixels(1, input.h, input.w);
  return input;
}

}  // namespace

Napi::Value IpAdapterWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_ip_adapter_config(info[0])); });
}

Napi::Value IpAdapterWrap::encode(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::IpAdapter& model = shared->model();
  const Fields fields(info[0], "call");
  const nd::ImagePromptInput sizes = read_sizes(fields);
  const int64_t floats =
      batch_pixels(sizes.count * sizes.images, sizes.rows, model.config().projection.width);
  const auto embeddings = std::make_shared<const std::vector<float>>(fields.floats("embeddings", floats));
  const auto masks = std::make_shared<const std::vector<float>>(
      sizes.h == 0 ? std::vector<float>() : fields.floats("masks", model.mask_floats(sizes.h, sizes.w)));
  const int64_t face_width = model.config().projection.face_width;
  const auto faces = std::make_shared<const std::vector<float>>(
      face_width == 0 ? std::vector<float>()
                      : fields.floats("faces", sizes.count * sizes.images * face_width));
  const auto to = KeptTensorsWrap::from(fields.get("to"), fields.name("to"), shared->device());
  return call(info.Env(), shared, info[1], [=](nd::IpAdapter& adapter, const nd::CancelToken& cancel) {
    nd::ImagePromptInput input = sizes;
    input.embeddings = embeddings->data();
    input.masks = masks->data();
    input.faces = faces->data();
    adapter.encode(input, *to, &cancel);
  });
}

Napi::Value IpAdapterWrap::memory(NativeObject& self, const Napi::CallbackInfo& info) {
  const Pointer shared = model_of(self);
  const nd::ImagePromptInput sizes = read_sizes(Fields(info[0], "call"));
  const nd::ImagePromptMemory memory = shared->model().memory(sizes);
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("working", bytes_value(info.Env(), memory.working));
  result.Set("kept", bytes_value(info.Env(), memory.kept));
  return result;
}

const NativeMember IpAdapterWrap::kMembers[2] = {
    {NativeMember::Kind::method, "encode", encode},
    {NativeMember::Kind::method, "memory", memory},
};

const NativeClass IpAdapterWrap::kClass = {
    "NativeIpAdapter", nullptr, true, model_bytes, {kMembers, kModelMembers}};

}  // namespace nd_binding
