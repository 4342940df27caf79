// The exports of the addon: the interface Native of lib/native.ts.
#include "addon.h"

#include "arguments.h"
#include "cancel_token.h"
#include "configs.h"
#include "convert.h"
#include "core/cpu_count.h"
#include "core/os.h"
#include "core/thread_pool.h"
#include "cuda_device.h"
#include "kept.h"
#include "failure.h"
#include "cpu/cpu_info.h"
#include "engine_limits.h"
#include "models.h"
#include "resident.h"
#include "nn/profile.h"

namespace nd_binding {
namespace {

template <class Strings>
Napi::Array to_array(Napi::Env env, const Strings& strings) {
  Napi::Array array = Napi::Array::New(env, strings.size());
  for (uint32_t i = 0; i < strings.size(); ++i) array.Set(i, strings[i]);
  return array;
}

Napi::Value cpu(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const nd::cpu::CpuInfo cpu = nd::cpu::cpu_info();
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("features", to_array(info.Env(), cpu.features));
    result.Set("kernels", to_array(info.Env(), cpu.kernels));
    result.Set("kernel", cpu.kernel);
    result.Set("threads", nd::ThreadPool::shared().threads());
    result.Set("physicalCores", nd::physical_cores());
    return result;
  });
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    nd::ThreadPool::shared().resize(static_cast<int>(to_integer(info[0], "threads", 1, Limits::threads)));
    return info.Env().Undefined();
  });
}

Napi::Object limits(Napi::Env env) {
  Napi::Object result = Napi::Object::New(env);
  for (const NamedLimit& limit : kNamedLimits) result.Set(limit.name, static_cast<double>(limit.value));
  result.Freeze();
  return result;
}

constexpr const char* kComputeNames[] = {"f32", "bf16", "int8", "int16"};

Napi::Array profile_rows(Napi::Env env, const std::vector<nd::Profile::Row>& rows) {
  Napi::Array result = Napi::Array::New(env, rows.size());
  for (uint32_t i = 0; i < rows.size(); ++i) {
    Napi::Object row = Napi::Object::New(env);
    row.Set("kind", rows[i].kind);
    row.Set("compute", kComputeNames[static_cast<size_t>(rows[i].compute)]);
    row.Set("seconds", rows[i].seconds);
    row.Set("operations", rows[i].operations);
    row.Set("bytes", rows[i].bytes);
    result.Set(i, row);
  }
  return result;
}

/// What models measure while the function runs: the work of what they would compute.
Napi::Value count_work(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    if (!info[0].IsFunction()) throw TypeFailure{"Expected function for measure"};
    nd::Profile profile;
    {
      const nd::Profile::Counting counting(&profile);
      info[0].As<Napi::Function>().Call({});
    }
    return profile_rows(info.Env(), profile.rows());
  });
}

/// true profiles all forward passes from now on, false stops that. Returns the measurements.
Napi::Value profile(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    nd::Profile::enable(to_boolean(info[0], "profile"));
    return profile_rows(info.Env(), nd::Profile::take());
  });
}

// process.exit() ends the process without ending the main thread's environment, and so does not wait for its
// calls. They are cancelled all the same, so that they do not compete with what the process still does.
void cancel_on_exit(Napi::Env env, const std::shared_ptr<Calls>& calls) {
  const Napi::Value process = env.Global().Get("process");
  if (!process.IsObject()) return;
  const Napi::Value once = process.As<Napi::Object>().Get("once");
  if (!once.IsFunction()) return;
  const auto listener = Napi::Function::New(env, [calls](const Napi::CallbackInfo&) { calls->cancel_all(); });
  once.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), listener});
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  nd::os::stay_loaded();
  auto* addon = new Addon();
  env.SetInstanceData(addon);  // deleted when the environment ends
  const auto define = [](Napi::Function function, Napi::FunctionReference& reference) {
    reference = Napi::Persistent(function);
    return function;
  };
  define(TextEncoderWrap::define(env), addon->text_encoder);
  define(UnetWrap::define(env), addon->unet);
  define(KUnetWrap::define(env), addon->k_unet);
  define(ControlNetWrap::define(env), addon->control_net);
  define(ControlLlliteWrap::define(env), addon->control_lllite);
  define(T2iAdapterWrap::define(env), addon->t2i_adapter);
  define(VaeWrap::define(env), addon->vae);
  define(TinyVaeWrap::define(env), addon->tiny_vae);
  define(ImageEncoderWrap::define(env), addon->image_encoder);
  define(IpAdapterWrap::define(env), addon->ip_adapter);
  define(CudaDeviceWrap::define(env), addon->cuda_device);
  define(ResidentTensorsWrap::define(env), addon->resident_tensors);
  define(env.Global().Get("Float32Array").As<Napi::Function>(), addon->float32_array);
  define(env.Global().Get("Int32Array").As<Napi::Function>(), addon->int32_array);
  define(env.Global().Get("Uint8Array").As<Napi::Function>(), addon->uint8_array);
  addon->calls = Calls::create(env);
  cancel_on_exit(env, addon->calls);

  exports.Set("CancelToken", define(CancelTokenWrap::define(env), addon->cancel_token));
  exports.Set("DeepFeatures", define(DeepFeaturesWrap::define(env), addon->deep_features));
  exports.Set("KeptTensors", define(KeptTensorsWrap::define(env), addon->kept_tensors));
  exports.Set("cudaDevices", Napi::Function::New(env, cuda_devices, "cudaDevices"));
  exports.Set("openCudaDevice", Napi::Function::New(env, CudaDeviceWrap::open, "openCudaDevice"));
  exports.Set("cpu", Napi::Function::New(env, cpu, "cpu"));
  exports.Set("setThreads", Napi::Function::New(env, set_threads, "setThreads"));
  exports.Set("profile", Napi::Function::New(env, profile, "profile"));
  exports.Set("countWork", Napi::Function::New(env, count_work, "countWork"));
  exports.Set("limits", limits(env));
  exports.Set("requiredTensors", Napi::Function::New(env, required_tensors, "requiredTensors"));
  exports.Set("loadTextEncoder", Napi::Function::New(env, TextEncoderWrap::load, "loadTextEncoder"));
  exports.Set("loadUnet", Napi::Function::New(env, UnetWrap::load, "loadUnet"));
  exports.Set("loadControlNet", Napi::Function::New(env, ControlNetWrap::load, "loadControlNet"));
  exports.Set("loadControlLllite", Napi::Function::New(env, ControlLlliteWrap::load, "loadControlLllite"));
  exports.Set("loadT2iAdapter", Napi::Function::New(env, T2iAdapterWrap::load, "loadT2iAdapter"));
  exports.Set("loadVae", Napi::Function::New(env, VaeWrap::load, "loadVae"));
  exports.Set("loadTinyVae", Napi::Function::New(env, TinyVaeWrap::load, "loadTinyVae"));
  exports.Set("loadImageEncoder", Napi::Function::New(env, ImageEncoderWrap::load, "loadImageEncoder"));
  exports.Set("loadIpAdapter", Napi::Function::New(env, IpAdapterWrap::load, "loadIpAdapter"));
  exports.Set("convertRows", Napi::Function::New(env, convert_rows, "convertRows"));
  return exports;
}

}  // namespace

NODE_API_MODULE(node_diffusion, initialize)

}  // namespace nd_binding
