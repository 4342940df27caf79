// Layers that compute large images in pieces: their working memory is measured for one piece.
#include "fixture_models.h"
#include "harness.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd::test {
namespace {

struct Arithmetic {
  const char* name;
  Precision precision;
  double most;  // relative L2 error to float32
};
constexpr Arithmetic kArithmetics[] = {{"bf16", Precision::bf16, 0.05}, {"i8", Precision::i8, 0.15}};

/// More pixels than a piece of a feed-forward network has rows.
std::vector<float> predict(Precision precision) {
  constexpr int64_t h = 68, w = 64, length = 5;
  const auto unet =
      load_model<Unet>("sd1/unet/diffusion_pytorch_model.safetensors", unet_config(), nullptr, precision);
  const std::vector<float> latents = noise("latents", 4 * h * w),
                           context = noise("context", length * unet->config().context_width);
  const float timestep = 500;
  std::vector<float> out(latents.size());
  unet->predict({latents.data(), 1, h, w, {&timestep, context.data(), length}}, out.data(), nullptr);
  return out;
}

/// More pixels at the highest resolution than a shortcut writes over its input at once.
std::vector<float> decode(Precision precision) {
  VaeConfig config;
  config.block_channels = {12, 20};
  config.norm_groups = 4;
  config.latent_channels = 5;
  config.layers_per_block = 1;
  config.mid_attention = config.quant_conv = config.post_quant_conv = false;
  constexpr int64_t h = 50, w = 60;
  const auto vae =
      load_model<Vae>("vae-plain/vae/diffusion_pytorch_model.safetensors", config, nullptr, precision);
  const std::vector<float> latents = noise("latents", config.latent_channels * h * w);
  std::vector<float> out(3 * 4 * h * w);
  vae->decode(latents.data(), 1, h, w, kAnyMemory, out.data(), nullptr);
  return out;
}

const Register suite([] {
  for (const auto& [name, precision, most] : kArithmetics) {
    test(std::string("pieces/UNet, ") + name, [p = precision, bound = most] {
      const double error = relative_error(predict(p), predict(Precision::f32));
      return error <= bound ? std::string() : "relative error " + text(error);
    });
    test(std::string("pieces/autoencoder, ") + name, [p = precision, bound = most] {
      const double error = relative_error(decode(p), decode(Precision::f32));
      return error <= bound ? std::string() : "relative error " + text(error);
    });
  }
});

}  // namespace
}  // namespace nd::test
