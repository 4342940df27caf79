// The export table: what lib/native.ts calls Native.
#include "addon.h"

#include "arguments.h"
#include "cancel_token.h"
#include "convert.h"
#include "core/thread_pool.h"
#include "deep_features.h"
#include "failure.h"
#include "kernels/kernels.h"
#include "models.h"
#include "nn/profile.h"

namespace nd_binding {
namespace {

Napi::Array to_array(Napi::Env env, const std::vector<const char*>& strings) {
  Napi::Array array = Napi::Array::New(env, strings.size());
  for (uint32_t i = 0; i < strings.size(); ++i) array.Set(i, strings[i]);
  return array;
}

std::vector<const char*> cpu_features() {
  std::vector<const char*> names;
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("sse4.2")) names.push_back("sse4.2");
  if (__builtin_cpu_supports("avx")) names.push_back("avx");
  if (__builtin_cpu_supports("fma")) names.push_back("fma");
  if (__builtin_cpu_supports("avx2")) names.push_back("avx2");
  if (__builtin_cpu_supports("avx512f")) names.push_back("avx512f");
  if (__builtin_cpu_supports("avx512bw")) names.push_back("avx512bw");
  if (__builtin_cpu_supports("avx512vl")) names.push_back("avx512vl");
  if (__builtin_cpu_supports("avx512dq")) names.push_back("avx512dq");
  if (__builtin_cpu_supports("avx512vnni")) names.push_back("avx512vnni");
#elif defined(__aarch64__)
  names.push_back("neon");
#endif
  return names;
}

Napi::Value cpu(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    int count = 0;
    const nd::Kernels* const* tables = nd::available_kernels(&count);
    std::vector<const char*> names;
    for (int i = 0; i < count; ++i) names.push_back(tables[i]->name);
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("features", to_array(info.Env(), cpu_features()));
    result.Set("kernels", to_array(info.Env(), names));
    result.Set("kernel", nd::best_kernels().name);
    result.Set("threads", nd::ThreadPool::shared().threads());
    result.Set("physicalCores", nd::physical_cores());
    return result;
  });
}

Napi::Value set_threads(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    nd::ThreadPool::shared().resize(static_cast<int>(to_integer(info[0], "threads", 1, 256)));
    return info.Env().Undefined();
  });
}

constexpr const char* kComputeNames[] = {"f32", "bf16", "int8"};

/// true: forwards from now on are profiled. false: no more of them; what they took is returned.
Napi::Value profile(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    nd::Profile::enable(to_boolean(info[0], "profile"));
    const std::vector<nd::Profile::Row> rows = nd::Profile::take();
    Napi::Array result = Napi::Array::New(info.Env(), rows.size());
    for (uint32_t i = 0; i < rows.size(); ++i) {
      Napi::Object row = Napi::Object::New(info.Env());
      row.Set("kind", rows[i].kind);
      row.Set("compute", kComputeNames[static_cast<size_t>(rows[i].compute)]);
      row.Set("seconds", rows[i].seconds);
      row.Set("operations", rows[i].operations);
      result.Set(i, row);
    }
    return result;
  });
}

// Node waits for running work when an environment ends. A call that nobody can wait for any more should not
// keep process.exit() waiting for a minute. Cleanup hooks would come too late: they run after that wait.
void cancel_on_exit(Napi::Env env, const std::shared_ptr<RunningCalls>& running) {
  const Napi::Value process = env.Global().Get("process");
  if (!process.IsObject()) return;
  const Napi::Value once = process.As<Napi::Object>().Get("once");
  if (!once.IsFunction()) return;
  const auto listener = Napi::Function::New(env, [running](const Napi::CallbackInfo&) {
    for (const auto& token : *running) token->cancel();
  });
  once.As<Napi::Function>().Call(process, {Napi::String::New(env, "exit"), listener});
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  auto* addon = new Addon();
  env.SetInstanceData(addon);  // deleted when the environment ends
  const auto define = [](Napi::Function function, Napi::FunctionReference& reference) {
    reference = Napi::Persistent(function);
    return function;
  };
  define(TextEncoderWrap::define(env), addon->text_encoder);
  define(UnetWrap::define(env), addon->unet);
  define(VaeWrap::define(env), addon->vae);
  define(TinyVaeWrap::define(env), addon->tiny_vae);
  define(env.Global().Get("Float32Array").As<Napi::Function>(), addon->float32_array);
  define(env.Global().Get("Int32Array").As<Napi::Function>(), addon->int32_array);
  define(env.Global().Get("Uint8Array").As<Napi::Function>(), addon->uint8_array);
  cancel_on_exit(env, addon->running);

  exports.Set("CancelToken", define(CancelTokenWrap::define(env), addon->cancel_token));
  exports.Set("DeepFeatures", define(DeepFeaturesWrap::define(env), addon->deep_features));
  exports.Set("cpu", Napi::Function::New(env, cpu, "cpu"));
  exports.Set("setThreads", Napi::Function::New(env, set_threads, "setThreads"));
  exports.Set("profile", Napi::Function::New(env, profile, "profile"));
  exports.Set("loadTextEncoder", Napi::Function::New(env, TextEncoderWrap::load, "loadTextEncoder"));
  exports.Set("loadUnet", Napi::Function::New(env, UnetWrap::load, "loadUnet"));
  exports.Set("loadVae", Napi::Function::New(env, VaeWrap::load, "loadVae"));
  exports.Set("loadTinyVae", Napi::Function::New(env, TinyVaeWrap::load, "loadTinyVae"));
  exports.Set("convertRows", Napi::Function::New(env, convert_rows, "convertRows"));
  return exports;
}

}  // namespace

NODE_API_MODULE(node_diffusion, initialize)

}  // namespace nd_binding
