// The common part of the JavaScript objects of all autoencoders: encoding, decoding, and their memory.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "cancel_token.h"
#include "image_arguments.h"
#include "job.h"
#include "model_wrap.h"
#include "vae/image_bytes.h"

namespace nd_binding {

/// In addition to what ModelWrap requires, Self has
///   kRoundsUp: whether sizes that are not multiples of the factor are rounded up or down
///   encoded_channels(config), decoded_channels(config): channels of encode()'s output and decode()'s input.
template <class Self, class Model>
class AutoencoderWrap : public ModelWrap<Self, Model> {
  using Wrap = ModelWrap<Self, Model>;

 protected:
  static Napi::Value encode(NativeObject& self, const Napi::CallbackInfo& info) {
    const auto shared = Wrap::model_of(self);
    const auto& config = shared->model().config();
    const ImageSizes sizes = read_image_sizes(info, 1, min_side(config));
    const int64_t f = config.factor(), more = Self::kRoundsUp ? f - 1 : 0;
    const int64_t latents = sizes.n * ((sizes.h + more) / f) * ((sizes.w + more) / f);
    auto image =
        std::make_shared<std::vector<float>>(to_floats(info[0], "image", sizes.pixels * config.in_channels));
    const size_t max_bytes = read_max_bytes(info[4]);
    return Wrap::template compute<float>(
        info.Env(), shared, info[5], latents * Self::encoded_channels(config),
        [=](Model& model, float* out, const nd::CancelToken& cancel) {
          model.encode(image->data(), sizes.n, sizes.h, sizes.w, max_bytes, out, &cancel);
        });
  }

  static Napi::Value decode(NativeObject& self, const Napi::CallbackInfo& info) {
    const Decoding call(self, info);
    return Wrap::template compute<float>(
        info.Env(), call.shared, info[5], call.pixels * call.channels,
        [call](Model& model, float* out, const nd::CancelToken& cancel) { call.run(model, out, cancel); });
  }

  /// decode() as bytes [n][f·h][f·w][3], and whether all numbers were finite.
  static Napi::Value decode_image(NativeObject& self, const Napi::CallbackInfo& info) {
    const Decoding call(self, info);
    if (call.channels != 1 && call.channels != 3)
      throw TypeFailure{"Expected an autoencoder of images with 1 or 3 channels but received one of " +
                        std::to_string(call.channels)};
    auto finite = std::make_shared<bool>(true);
    const Output<uint8_t> bytes(info.Env(), 3 * call.pixels);
    return run_async(
        info.Env(), CancelTokenWrap::from(info[5], "cancel"),
        [call, bytes, finite](const nd::CancelToken& cancel) {
          const std::unique_ptr<float[]> planes(new float[static_cast<size_t>(call.pixels * call.channels)]);
          call.shared->use([&] { call.run(call.shared->used(), planes.get(), cancel); });
          const int64_t one = call.pixels / call.sizes.n;
          for (int64_t i = 0; i < call.sizes.n; ++i)
            *finite &= nd::image_bytes(planes.get() + i * one * call.channels, call.channels, one,
                                       bytes.data() + i * one * 3);
        },
        [bytes, finite](Napi::Env env) -> Napi::Value {
          Napi::Object result = Napi::Object::New(env);
          result.Set("bytes", bytes.value());
          result.Set("finite", *finite);
          return result;
        });
  }

  // Images are processed one at a time, so the working memory does not depend on n.
  static Napi::Value encode_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
    const auto shared = Wrap::model_of(self);
    const ImageSizes sizes = read_image_sizes(info, 0, min_side(shared->model().config()));
    return bytes_value(info.Env(), shared->model().encode_bytes(sizes.h, sizes.w, read_max_bytes(info[3])));
  }

  static Napi::Value decode_bytes(NativeObject& self, const Napi::CallbackInfo& info) {
    const auto shared = Wrap::model_of(self);
    const Model& model = shared->model();
    const ImageSizes sizes = read_image_sizes(info, 0, 1);
    scaled_pixels(sizes, model.config().factor());
    return bytes_value(info.Env(), model.decode_bytes(sizes.h, sizes.w, read_max_bytes(info[3])));
  }

  static constexpr NativeMember kCoding[] = {
      {NativeMember::Kind::method, "encode", encode},
      {NativeMember::Kind::method, "decode", decode},
      {NativeMember::Kind::method, "decodeImage", decode_image},
      {NativeMember::Kind::method, "encodeBytes", encode_bytes},
      {NativeMember::Kind::method, "decodeBytes", decode_bytes},
  };

 private:
  /// Arguments of decode() and decode_image().
  struct Decoding {
    typename Wrap::Pointer shared;
    ImageSizes sizes;
    int64_t channels, pixels;  // of all images
    std::shared_ptr<const std::vector<float>> latents;
    size_t max_bytes;

    Decoding(const NativeObject& self, const Napi::CallbackInfo& info)
        : shared(Wrap::model_of(self)),
          sizes(read_image_sizes(info, 1, 1)),
          channels(shared->model().config().out_channels),
          pixels(scaled_pixels(sizes, shared->model().config().factor())),
          latents(std::make_shared<const std::vector<float>>(to_floats(
              info[0], "latents", sizes.pixels * Self::decoded_channels(shared->model().config())))),
          max_bytes(read_max_bytes(info[4])) {}
    void run(Model& model, float* out, const nd::CancelToken& cancel) const {
      model.decode(latents->data(), sizes.n, sizes.h, sizes.w, max_bytes, out, &cancel);
    }
  };

  /// The smallest side of an image that has latents.
  template <class Config>
  static int64_t min_side(const Config& config) {
    return Self::kRoundsUp ? 1 : config.factor();
  }
};

}  // namespace nd_binding
