#include "configs.h"
#include "deep_features.h"
#include "limits.h"
#include "models.h"

namespace nd_binding {
namespace {

struct Sizes {
  int64_t n, h, w, length;
};

Sizes read_sizes(const Napi::CallbackInfo& info, const nd::UnetConfig& config, size_t first,
                 size_t length_index) {
  Sizes sizes{};
  sizes.n = to_integer(info[first], "n", 1, Limits::batch);
  sizes.h = to_integer(info[first + 1], "h", 1, Limits::side);
  sizes.w = to_integer(info[first + 2], "w", 1, Limits::side);
  sizes.length = to_integer(info[length_index], "length", config.has_attention() ? 1 : 0, Limits::side);
  batch_pixels(sizes.n, sizes.h, sizes.w);
  return sizes;
}

/// Options of a call, and what they refer to, kept alive. Bounds are the model's to check.
struct CallOptions {
  nd::UnetOptions options;
  std::shared_ptr<nd::DeepFeatures> deep;
};

CallOptions read_options(Napi::Value value) {
  CallOptions result;
  if (value.IsUndefined() || value.IsNull()) return result;
  const Fields fields(value, "options");
  if (fields.has("tokenMerging")) result.options.token_merging = fields.number("tokenMerging");
  if (fields.has("depth"))
    result.options.depth = fields.integer("depth", 0, Limits::levels * (Limits::layers_per_level + 1));
  if (fields.has("reuse")) result.options.reuse = fields.boolean("reuse");
  if (fields.has("deep")) result.deep = DeepFeaturesWrap::from(fields.get("deep"), "options.deep");
  result.options.deep = result.deep.get();
  return result;
}

}  // namespace

Napi::Function UnetWrap::define(Napi::Env env) {
  return DefineClass(env, kName,
                     with_common({InstanceMethod("predict", &UnetWrap::predict),
                                  InstanceMethod("prepare", &UnetWrap::prepare),
                                  InstanceMethod("workingBytes", &UnetWrap::working_bytes)}));
}

Napi::Value UnetWrap::load(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return ModelWrap::load(info, read_unet_config(info[0])); });
}

Napi::Value UnetWrap::predict(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const nd::UnetConfig& config = held()->model().config();
    const Sizes sizes = read_sizes(info, config, 1, 6);
    const int64_t pixels = batch_pixels(sizes.n, sizes.h, sizes.w);
    struct Input {
      std::vector<float> latents, timesteps, context;
    };
    auto input = std::make_shared<Input>();
    input->latents = to_floats(info[0], "latents", pixels * config.in_channels);
    input->timesteps = to_floats(info[4], "timesteps", sizes.n);
    input->context = to_floats(info[5], "context", sizes.n * sizes.length * config.context_width);
    const CallOptions call = read_options(info[7]);
    held()->model().check(call.options);
    return compute<float>(
        info, 8, pixels * config.out_channels,
        [=](nd::Unet& model, float* out, const nd::CancelToken& cancel) {
          const nd::Conditioning conditioning{input->timesteps.data(), input->context.data(), sizes.length};
          model.predict({input->latents.data(), sizes.n, sizes.h, sizes.w, conditioning}, out, &cancel,
                        call.options);
        });
  });
}

Napi::Value UnetWrap::prepare(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const int64_t n = to_integer(info[1], "n", 1, Limits::timesteps);
    auto timesteps = std::make_shared<std::vector<float>>(to_floats(info[0], "timesteps", n));
    return call(info, 2, [=](nd::Unet& model, const nd::CancelToken& cancel) {
      model.prepare(timesteps->data(), n, &cancel);
    });
  });
}

Napi::Value UnetWrap::working_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nd::Unet& model = held()->model();
    const Sizes sizes = read_sizes(info, model.config(), 0, 3);
    const CallOptions call = read_options(info[4]);
    const size_t bytes = model.working_bytes(sizes.n, sizes.h, sizes.w, sizes.length, call.options);
    return Napi::Number::New(info.Env(), static_cast<double>(bytes));
  });
}

}  // namespace nd_binding
