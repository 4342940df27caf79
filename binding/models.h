// The JavaScript classes of the models. Their methods are those of lib/native.ts.
#pragma once
#include "autoencoder_wrap.h"
#include "control/control_lllite.h"
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
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::text_encoder;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value encode(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value working_bytes(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[2];
};

class UnetWrap : public ModelWrap<UnetWrap, nd::Unet> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::unet;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value max_depth(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value predict(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value prepare(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value working_bytes(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[4];
};

/// A NativeUnet, too: without deep features and merged tokens.
class KUnetWrap : public ModelWrap<KUnetWrap, nd::KUnet> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::k_unet;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value max_depth(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value predict(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value prepare(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value working_bytes(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[4];
};

class ControlNetWrap : public ModelWrap<ControlNetWrap, nd::ControlNet> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::control_net;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value residuals(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value embed(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value predict(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value prepare(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value memory(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[5];
};

class T2iAdapterWrap : public ModelWrap<T2iAdapterWrap, nd::T2iAdapter> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::t2i_adapter;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value features(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value embed(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value memory(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[3];
};

class ControlLlliteWrap : public ModelWrap<ControlLlliteWrap, nd::ControlLllite> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::control_lllite;
  static Napi::Value load(const Napi::CallbackInfo& info);
  /// What an argument wraps, which it keeps alive. Throws as to_object().
  static std::shared_ptr<const nd::InputNetworks> networks(Napi::Value value, const std::string& name);

 private:
  static Napi::Value factor(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value embed(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value memory(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[3];
};

class VaeWrap : public AutoencoderWrap<VaeWrap, nd::Vae> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::vae;
  static constexpr bool kRoundsUp = false;
  static int64_t encoded_channels(const nd::VaeConfig& config) { return config.moment_channels(); }
  static int64_t decoded_channels(const nd::VaeConfig& config) { return config.decoded_channels(); }
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value quantize(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value lookup(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[2];
};

class TinyVaeWrap : public AutoencoderWrap<TinyVaeWrap, nd::TinyVae> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::tiny_vae;
  static constexpr bool kRoundsUp = true;
  static int64_t encoded_channels(const nd::TinyVaeConfig& config) { return config.latent_channels; }
  static int64_t decoded_channels(const nd::TinyVaeConfig& config) { return config.latent_channels; }
  static Napi::Value load(const Napi::CallbackInfo& info);
};

class ImageEncoderWrap : public ModelWrap<ImageEncoderWrap, nd::ImageEncoder> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::image_encoder;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value encode(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value working_bytes(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[2];
};

class IpAdapterWrap : public ModelWrap<IpAdapterWrap, nd::IpAdapter> {
 public:
  static const NativeClass kClass;
  static constexpr auto kConstructor = &Addon::ip_adapter;
  static Napi::Value load(const Napi::CallbackInfo& info);

 private:
  static Napi::Value encode(NativeObject& self, const Napi::CallbackInfo& info);
  static Napi::Value memory(NativeObject& self, const Napi::CallbackInfo& info);

  static const NativeMember kMembers[2];
};

}  // namespace nd_binding
