// Layers that compute large images in pieces: their working memory is measured for one piece.
#include "fixture_models.h"
#include "golden.h"
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
  const GoldenVae plain = golden_vaes()[1];
  constexpr int64_t h = 50, w = 60;
  const auto vae =
      load_model<Vae>(backend_of(), weights_of(plain.name, "vae"), plain.config, nullptr, precision);
  const std::vector<float> latents = noise("latents", plain.config.latent_channels * h * w);
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
