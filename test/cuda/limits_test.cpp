// Sizes beyond what kernels count in 32 bits are errors before anything is allocated: shapes are only
// measured here.
#include <functional>

#include "cuda/layers/norm.h"
#include "fixture_models.h"
#include "random_model.h"
#include "support.h"
#include "unet/unet.h"
#include "vae/tiny.h"
#include "vae/vae.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr int64_t kBeyond = int64_t{1} << 31;

/// Runs `call`, which is to fail with the error for images that are too large.
template <class Call>
std::string refused(const Call& call) {
  try {
    call();
    return "no error";
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) return std::string("another code: ") + error.what();
    return std::string(error.what()).find("too many activations") == std::string::npos ? error.what() : "";
  }
}

/// Bytes that an operation on a tensor of this shape needs.
template <class Forward>
size_t measure(int64_t n, int64_t h, int64_t w, int64_t c, const Forward& forward) {
  return Workspace::measure(backend(), [&](ForwardContext& ctx) { forward(ctx, Tensor(ctx, n, h, w, c)); });
}

void numbers() {
  test::test("cuda/limits narrow", [] {
    for (const int64_t x : {int64_t{0}, int64_t{-1}, kMaxCount, -kMaxCount})
      if (narrow(x) != x) return text(static_cast<double>(x)) + " became another number";
    for (const int64_t x : {kMaxCount + 1, -kMaxCount - 1, kBeyond, -kBeyond, kBeyond * 2, kBeyond * 2 + 1})
      if (const std::string why = refused([&] { narrow(x); }); !why.empty())
        return text(static_cast<double>(x)) + ": " + why;
    return std::string();
  });
}

void operations() {
  test::test("cuda/limits of operations", [] {
    const NormWeights norm{std::vector<float>(64, 1.0f), std::vector<float>(64, 0.0f)};
    const WeightTable table;
    Loader loader(table, backend());
    const cuda::GroupNorm group(backend().device(), loader, norm, 32, 1e-5f);
    const cuda::LayerNorm layer(backend().device(), loader, norm, 1e-5f);
    const int64_t side = int64_t{1} << 16;  // its square has more than 32 bits
    struct Case {
      const char* name;
      std::function<void()> run;
    };
    const Case cases[] = {
        {"from planes",
         [&] {
           Workspace::measure(backend(), [&](ForwardContext& ctx) {
             backend().from_planar(ctx, nullptr, 1, 3, side, side);
           });
         }},
        {"to planes",
         [&] {
           measure(1, side, side, 3,
                   [](ForwardContext& ctx, const Tensor& x) { backend().to_planar(ctx, x, nullptr); });
         }},
        {"group norm",
         [&] {
           measure(1, side, side, 64,
                   [&](ForwardContext& ctx, const Tensor& x) { group.forward(ctx, x, true); });
         }},
        {"layer norm",
         [&] {
           measure(1, 1, kBeyond, 64, [&](ForwardContext& ctx, const Tensor& x) { layer.forward(ctx, x); });
         }},
        {"masked addition",
         [&] {
           measure(1, side, side, 8, [&](ForwardContext& ctx, const Tensor& x) {
             const Tensor mask(ctx, 1, side, side, 1), y(ctx, 1, side, side, 8);
             backend().add_masked(ctx, x, y, 1, &mask);
           });
         }},
        {"more images than a grid has",
         [&] {
           measure(70000, 1, 1, 64,
                   [&](ForwardContext& ctx, const Tensor& x) { group.forward(ctx, x, true); });
         }},
    };
    for (const Case& one : cases)
      if (const std::string why = refused(one.run); !why.empty()) return one.name + (": " + why);
    // More than 65535 pieces of moments.
    const size_t bytes = measure(1, 5000, 5000, 64,
                                 [&](ForwardContext& ctx, const Tensor& x) { group.forward(ctx, x, true); });
    return std::string(bytes > 2 * size_t{5000} * 5000 * 64 * 2 ? "" : "nothing was measured");
  });
}

/// Of the fixture "vae-kl".
VaeConfig small_vae() {
  VaeConfig config;
  config.block_channels = {8, 8, 16, 16};
  config.norm_groups = 4;
  return config;
}

void models() {
  test::test("cuda/limits of a UNet", [] {
    const std::unique_ptr<Unet> unet =
        load_model<Unet>(backend(), "sd1/unet/diffusion_pytorch_model.safetensors", unet_config());
    if (unet->working_bytes(1, 1024, 1024, 77) == 0) return std::string("nothing was measured");
    return refused([&] { unet->working_bytes(1, 20000, 20000, 77); });
  });
  // Whole, an image of 8 channels at the highest resolution has more elements than kernels can count.
  test::test("cuda/limits of an autoencoder, which runs in bands beyond them", [] {
    const VaeConfig config = small_vae();
    const std::unique_ptr<Vae> vae =
        load_model<Vae>(backend(), "vae-kl/vae/diffusion_pytorch_model.safetensors", config);
    const int64_t side = 2200, f = config.factor(), pixels = side * side * f * f;
    const size_t decoded = vae->decode_bytes(side, side, kAnyMemory),
                 encoded = vae->encode_bytes(side * f, side * f, kAnyMemory);
    // Half of the activations.
    const size_t least = static_cast<size_t>(pixels) * 8 / 2;
    if (decoded < least || encoded < least) return std::string("nothing was measured");
    return refused([&] { vae->decode_bytes(side * 8, side * 8, kAnyMemory); });
  });
  // A band of 64 rows of so wide an image has more elements than kernels can count, whatever memory is
  // allowed.
  test::test("cuda/limits of bands of an autoencoder", [] {
    const VaeConfig config = small_vae();
    const std::unique_ptr<Vae> vae =
        load_model<Vae>(backend(), "vae-kl/vae/diffusion_pytorch_model.safetensors", config);
    const int64_t f = config.factor(), h = 16, w = 600000;
    for (const size_t most : {kAnyMemory, size_t{1} << 40, size_t{1} << 30, size_t{1}}) {
      if (vae->decode_bytes(h, w, most) == 0) return std::string("nothing was measured");
      if (vae->encode_bytes(h * f, w * f, most) == 0) return std::string("nothing was measured");
    }
    // Not even in the lowest bands.
    return refused([&] { vae->decode_bytes(h, w * 16, size_t{1} << 40); });
  });
  test::test("cuda/limits of a tiny autoencoder, which runs in bands beyond them", [] {
    TinyVaeConfig config;
    config.width = 8;
    config.encoder_blocks = config.decoder_blocks = {1, 1, 1};
    const std::unique_ptr<TinyVae> vae = load_random<TinyVae>(backend(), config);
    return std::string(vae->decode_bytes(5000, 5000, kAnyMemory) > 0 ? "" : "nothing was measured");
  });
}

const Register suite([] {
  numbers();
  operations();
  models();
});

}  // namespace
}  // namespace nd::cuda_test
