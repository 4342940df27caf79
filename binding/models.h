// The JavaScript classes of the models. Their methods are those of lib/native.ts.
#pragma once
#include "autoencoder_wrap.h"
#include "control/control_net.h"
#include "control/ip_adapter.h"
#include "control/t2i_adapter.h"
#include "model_wrap.h"
#include "text/text_encoder.h"
#include "unet/k_unet.h"
#include "unet/unet.h"
#include "vae/tiny.h"
#include "vae/vae.h"
#include "vision/image_encoder.h"

namespace nd_binding {

class TextEncoderWrap : public ModelWrap<TextEncoderWrap, nd::TextEncoder> {
 public:
  static constexpr const char* kName = "NativeTextEncoder";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x66747874656e6301};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.text_encoder; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value working_bytes(const Napi::CallbackInfo& info);
};

class UnetWrap : public ModelWrap<UnetWrap, nd::Unet> {
 public:
  static constexpr const char* kName = "NativeUnet";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x66756e6574000001};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.unet; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value max_depth(const Napi::CallbackInfo& info);
  Napi::Value predict(const Napi::CallbackInfo& info);
  Napi::Value prepare(const Napi::CallbackInfo& info);
  Napi::Value working_bytes(const Napi::CallbackInfo& info);
};

/// A NativeUnet, too: without deep features and merged tokens.
class KUnetWrap : public ModelWrap<KUnetWrap, nd::KUnet> {
 public:
  static constexpr const char* kName = "NativeKUnet";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x666b756e65740001};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.k_unet; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value max_depth(const Napi::CallbackInfo& info);
  Napi::Value predict(const Napi::CallbackInfo& info);
  Napi::Value prepare(const Napi::CallbackInfo& info);
  Napi::Value working_bytes(const Napi::CallbackInfo& info);
};

class ControlNetWrap : public ModelWrap<ControlNetWrap, nd::ControlNet> {
 public:
  static constexpr const char* kName = "NativeControlNet";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x66636f6e74726c01};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.control_net; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value residuals(const Napi::CallbackInfo& info);
  Napi::Value embed(const Napi::CallbackInfo& info);
  Napi::Value predict(const Napi::CallbackInfo& info);
  Napi::Value prepare(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
};

class T2iAdapterWrap : public ModelWrap<T2iAdapterWrap, nd::T2iAdapter> {
 public:
  static constexpr const char* kName = "NativeT2iAdapter";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6674326961647001};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.t2i_adapter; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value features(const Napi::CallbackInfo& info);
  Napi::Value embed(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
};

class VaeWrap : public AutoencoderWrap<VaeWrap, nd::Vae> {
 public:
  static constexpr const char* kName = "NativeVae";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6676616500000001};
  static constexpr bool kRoundsUp = false;
  static int64_t encoded_channels(const nd::VaeConfig& config) { return config.moment_channels(); }
  static int64_t decoded_channels(const nd::VaeConfig& config) { return config.decoded_channels(); }
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.vae; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using AutoencoderWrap::AutoencoderWrap;
  Napi::Value quantize(const Napi::CallbackInfo& info);
  Napi::Value lookup(const Napi::CallbackInfo& info);
};

class TinyVaeWrap : public AutoencoderWrap<TinyVaeWrap, nd::TinyVae> {
 public:
  static constexpr const char* kName = "NativeTinyVae";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6674696e79766101};
  static constexpr bool kRoundsUp = true;
  static int64_t encoded_channels(const nd::TinyVaeConfig& config) { return config.latent_channels; }
  static int64_t decoded_channels(const nd::TinyVaeConfig& config) { return config.latent_channels; }
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.tiny_vae; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using AutoencoderWrap::AutoencoderWrap;
};

class ImageEncoderWrap : public ModelWrap<ImageEncoderWrap, nd::ImageEncoder> {
 public:
  static constexpr const char* kName = "NativeImageEncoder";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x66696d67656e6301};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.image_encoder; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value working_bytes(const Napi::CallbackInfo& info);
};

class IpAdapterWrap : public ModelWrap<IpAdapterWrap, nd::IpAdapter> {
 public:
  static constexpr const char* kName = "NativeIpAdapter";
  static constexpr napi_type_tag kTag = {0x6e6f64652d646966, 0x6669706164617001};
  static Napi::FunctionReference& constructor(Addon& addon) { return addon.ip_adapter; }
  static Napi::Function define(Napi::Env env);
  static Napi::Value load(const Napi::CallbackInfo& info);

  using ModelWrap::ModelWrap;
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
};

}  // namespace nd_binding
