// The fixtures' models through the whole GPU path, against the CPU in float32, which test/models compares
// with diffusers and transformers.
#include <algorithm>

#include "fixture_models.h"
#include "emulator.h"
#include "support.h"
#include "text/text_encoder.h"
#include "unet/k_unet.h"
#include "unet/unet.h"
#include "vae/tiny.h"
#include "vae/vae.h"
#include "vision/image_encoder.h"

namespace nd::cuda_test {
namespace {

using cuda::WarpgroupProducts;

// Of the largest value. Half precision rounds each activation by up to 2⁻¹¹ of itself. Small random models
// amplify that: where their outputs move by more when their inputs do, up to as much as for inputs changed by
// kInputChange.
constexpr double kMost = 2e-3;
constexpr float kInputChange = 0x1p-9f;

/// Inputs are changed by this share of themselves, up or down.
float input_change = 0;

std::vector<float> input(const std::string& seed, int64_t count) {
  std::vector<float> values = noise(seed, count);
  Random signs(seed + " signs");
  for (float& value : values) value *= 1 + (signs.next() % 2 ? input_change : -input_change);
  return values;
}

/// A model and one call of it that fills `out`.
template <class Model, class Config>
struct Subject {
  std::string name;
  std::vector<const char*> files;
  Config config;
  void (*call)(Model&, std::vector<float>& out);

  std::unique_ptr<Model> load(Backend& backend) const {
    WeightTable table;
    for (const char* file : files) add_safetensors(table, std::string(ND_FIXTURES) + "/" + file);
    Loader loader(table, backend, {Precision::f32});
    return std::make_unique<Model>(config, loader);
  }
};

/// Products by Hopper's kernels for as long as this lives.
class WithWarpgroups {
 public:
  WithWarpgroups() { backend().device().use_warpgroup_products(WarpgroupProducts::all); }
  ~WithWarpgroups() { backend().device().use_warpgroup_products(before_); }
  WithWarpgroups(const WithWarpgroups&) = delete;
  WithWarpgroups& operator=(const WithWarpgroups&) = delete;

 private:
  WarpgroupProducts before_ = backend().device().warpgroup_products();
};

/// How far the outputs move when the inputs are changed, by two patterns of the same size.
template <class Model, class Config>
double movement(const Subject<Model, Config>& subject, Model& reference, const std::vector<float>& truth) {
  double most = 0;
  for (const float change : {kInputChange, -kInputChange}) {
    std::vector<float> moved;
    input_change = change;
    subject.call(reference, moved);
    input_change = 0;
    most = std::max(most, worst_error(moved, truth));
  }
  return most;
}

/// What is wrong, or nothing.
template <class Model, class Config>
std::string difference(const Subject<Model, Config>& subject) {
  std::vector<float> truth, got, again;
  const std::unique_ptr<Model> reference = subject.load(backend_of());
  subject.call(*reference, truth);
  const std::unique_ptr<Model> model = subject.load(backend());
  subject.call(*model, got);
  std::string why = within(got, truth, std::max(kMost, movement(subject, *reference, truth)));
  if (!why.empty()) return why;
  model->trim();
  subject.call(*model, again);
  return std::memcmp(got.data(), again.data(), got.size() * sizeof(float)) == 0 ? "" : "again it differs";
}

template <class Model, class Config>
void compare(const Subject<Model, Config>& subject) {
  in_orders(model_orders(), "cuda/golden " + subject.name, [&] { return difference(subject); });
  // Imitating wgmma takes long, too: a UNet, and autoencoders, whose attention Hopper's kernels can compute.
  const bool some = subject.name == "depth-2" || subject.name == "vae-kl" || subject.name == "vae-wide";
  if (emu::checking || !backend().device().has_warpgroup_products() || !(some || on_hardware())) return;
  in_orders({model_orders().back()}, "cuda/golden " + subject.name + ", by warpgroups", [&] {
    const WithWarpgroups all;
    return difference(subject);
  });
}

/// The heads' numbers are what diffusers calls attention_head_dim in these models.
UnetConfig unet(std::vector<int64_t> channels, std::vector<int64_t> layers, std::vector<Depths> depth,
                std::vector<int64_t> heads, int64_t context = 20, int64_t groups = 4) {
  UnetConfig config;
  config.block_channels = std::move(channels);
  config.layers_per_block = std::move(layers);
  config.down_transformer_depth = config.up_transformer_depth = std::move(depth);
  config.heads = std::move(heads);
  config.context_width = context;
  config.norm_groups = groups;
  return config;
}

struct UnetCall {
  std::string latents;
  int64_t h, w;
  UnetOptions options{};
};

void call_unet(Unet& model, const UnetCall& call, std::vector<float>& out) {
  const int64_t n = 2, length = 9, pixels = call.h * call.w;
  const UnetConfig& config = model.config();
  const std::vector<float> latents = input(call.latents, n * config.in_channels * pixels),
                           context = input("context", n * length * config.context_width);
  const float timesteps[] = {981.0f, 17.5f};
  out.resize(static_cast<size_t>(n * config.out_channels * pixels));
  model.predict({latents.data(), n, call.h, call.w, {timesteps, context.data(), length}}, out.data(), nullptr,
                call.options);
}

/// 12×10 latents are halved to odd sizes, which upsampling has to cut.
void call_unet(Unet& model, std::vector<float>& out) {
  call_unet(model, {"latents", 12, 10}, out);
}

/// Three destinations and nine sources, of which six are merged.
UnetCall merging_call{"", 2, 6, {0.5}};

void call_merging(Unet& model, std::vector<float>& out) {
  call_unet(model, merging_call, out);
}

/// With latents for which it is clear what is merged: small changes do not make another choice.
void compare_merging(const Subject<Unet, UnetConfig>& plain) {
  Subject<Unet, UnetConfig> subject = plain;
  subject.name += ", merged tokens";
  subject.call = call_merging;
  const std::unique_ptr<Unet> reference = subject.load(backend_of());
  const auto is_clear = [&] {
    std::vector<float> truth;
    call_merging(*reference, truth);
    return movement(subject, *reference, truth) < 0.03;
  };
  for (int i = 0; i < 1000; ++i) {
    merging_call.latents = "latents " + std::to_string(i);
    if (is_clear()) return compare(subject);
  }
  report("cuda/golden " + subject.name, "no latents are clear");
}

void unets() {
  struct Case {
    const char* name = nullptr;
    UnetConfig config;
    bool merges = false;
  };
  UnetConfig inpainting = unet({8, 16}, {1, 1}, {1, 0}, {4, 4}, 20, 8);
  inpainting.in_channels = 9;
  UnetConfig conditioned = unet({8, 20}, {1, 1}, {1, 1}, {4, 4});
  conditioned.in_channels = 8;
  UnetConfig deep = unet({8, 12, 16}, {1, 2, 1}, {0, 1, 1}, {1, 3, 8});
  UnetConfig depth2 = unet({8, 16}, {1, 1}, {1, 2}, {2, 4}, 17);
  depth2.mid_transformer_depth = 2;
  UnetConfig no_middle = unet({12, 16}, {1, 1}, {1, 1}, {2, 4});
  no_middle.mid_transformer_depth = -1;
  no_middle.norm_eps = 1e-4f;
  no_middle.flip_sin_to_cos = false;
  no_middle.freq_shift = 1;
  UnetConfig plain = unet({8, 12}, {1, 1}, {1, 0}, {4, 4});
  plain.mid_transformer_depth = 0;
  for (const Case& one : {Case{"sd1", unet_config(), true},
                          {"sd2", unet({10, 15, 20}, {1, 1, 1}, {1, 1, 0}, {2, 3, 4}, 24, 5)},
                          {"image-conditioned", conditioned},
                          {"deep-attention", deep, true},
                          {"depth-2", depth2, true},
                          {"no-middle", no_middle},
                          {"plain-middle", plain}}) {
    const std::string file = std::string("models/") + one.name + "/unet/diffusion_pytorch_model.safetensors";
    const Subject<Unet, UnetConfig> subject{one.name, {file.c_str()}, one.config, call_unet};
    compare(subject);
    if (one.merges) compare_merging(subject);
  }
  compare(
      Subject<Unet, UnetConfig>{"inpainting",
                                {"models/inpainting/unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                                 "models/inpainting/unet/diffusion_pytorch_model-00002-of-00002.safetensors"},
                                inpainting,
                                call_unet});
}

void call_k_unet(KUnet& model, std::vector<float>& out) {
  const int64_t n = 2, h = 12, w = 10, length = 9;
  const KUnetConfig& config = model.config();
  const std::vector<float> latents = input("latents", n * config.in_channels * h * w),
                           context = input("context", n * length * config.context_width),
                           condition = input("condition", n * config.condition_width);
  const float timesteps[] = {0.66f, -0.5f};
  out.resize(static_cast<size_t>(n * config.out_channels * h * w));
  UnetInput given{latents.data(), n, h, w, {timesteps, context.data(), length}};
  given.conditioning.time_condition = condition.data();
  model.predict(given, out.data(), nullptr);
}

void k_unets() {
  compare(Subject<KUnet, KUnetConfig>{"k-unet",
                                      {"latent-upscaler/two-levels/diffusion_pytorch_model.safetensors"},
                                      k_unet_config(),
                                      call_k_unet});
}

VaeConfig vae(std::vector<int64_t> channels, int64_t layers, int64_t groups) {
  VaeConfig config;
  config.block_channels = std::move(channels);
  config.layers_per_block = layers;
  config.norm_groups = groups;
  return config;
}

void call_vae(Vae& model, std::vector<float>& out) {
  const VaeConfig& config = model.config();
  const int64_t f = config.factor(), h = 7, w = 5;
  const std::vector<float> image = input("image", config.in_channels * h * w * f * f),
                           latents = input("latents", config.decoded_channels() * h * w);
  out.resize(static_cast<size_t>((config.moment_channels() + config.out_channels * f * f) * h * w));
  model.encode(image.data(), 1, h * f, w * f, kAnyMemory, out.data(), nullptr);
  model.decode(latents.data(), 1, h, w, kAnyMemory, out.data() + config.moment_channels() * h * w, nullptr);
}

/// In bands, which store rows of whole images in between: as floats where memory allows it, then as halves.
void call_banded(Vae& model, std::vector<float>& out) {
  const VaeConfig& config = model.config();
  const int64_t f = config.factor(), h = 17, w = 3;
  const std::vector<float> latents = input("latents", config.decoded_channels() * h * w);
  const size_t size = static_cast<size_t>(config.out_channels * h * f * w * f);
  const size_t whole = model.decode_bytes(h, w, kAnyMemory);
  out.resize(2 * size);
  model.decode(latents.data(), 1, h, w, whole - 1, out.data(), nullptr);
  model.decode(latents.data(), 1, h, w, 0, out.data() + size, nullptr);
}

void call_vq(Vae& model, std::vector<float>& out) {
  call_vae(model, out);
  const int64_t h = 8, w = 10;
  const std::vector<float> latents = input("latents", 3 * h * w);
  std::vector<int32_t> codes(static_cast<size_t>(h * w));
  std::vector<float> nearest(latents.size());
  model.quantize(latents.data(), 1, h, w, codes.data(), nullptr);
  model.lookup(codes.data(), 1, h, w, nearest.data());
  out.insert(out.end(), nearest.begin(), nearest.end());
}

void vaes() {
  const char *kl = "models/vae-kl/vae/diffusion_pytorch_model.safetensors",
             *plain_file = "models/vae-plain/vae/diffusion_pytorch_model.safetensors",
             *vq = "models/vq/vae/diffusion_pytorch_model.safetensors",
             *wide = "wide-vae/diffusion_pytorch_model.safetensors";
  VaeConfig plain = vae({12, 20}, 1, 4);
  plain.latent_channels = 5;
  plain.mid_attention = plain.quant_conv = plain.post_quant_conv = false;
  VaeConfig quantized = vae({8, 8, 16}, 1, 4);
  quantized.latent_channels = quantized.codebook_width = 3;
  quantized.codebook_size = 37;
  using Case = Subject<Vae, VaeConfig>;
  compare(Case{"vae-kl", {kl}, vae({8, 8, 16, 16}, 2, 4), call_vae});
  compare(Case{"vae-kl in bands", {kl}, vae({8, 8, 16, 16}, 2, 4), call_banded});
  compare(Case{"vae-plain", {plain_file}, plain, call_vae});
  compare(Case{"vae-plain in bands", {plain_file}, plain, call_banded});
  compare(Case{"vq", {vq}, quantized, call_vq});
  // Activations of up to a million.
  compare(Case{"vae-wide", {wide}, vae({8, 8, 16}, 1, 4), call_vae});
  compare(Case{"vae-wide in bands", {wide}, vae({8, 8, 16}, 1, 4), call_banded});
}

void call_tiny(TinyVae& model, std::vector<float>& out) {
  const TinyVaeConfig& config = model.config();
  const int64_t f = config.factor(), h = 7, w = 5;
  const std::vector<float> image = input("image", config.in_channels * h * w * f * f),
                           latents = input("latents", config.latent_channels * h * w);
  const size_t encoded = static_cast<size_t>(config.latent_channels * h * w);
  out.resize(encoded + static_cast<size_t>(config.out_channels * f * f * h * w));
  model.encode(image.data(), 1, h * f, w * f, kAnyMemory, out.data(), nullptr);
  model.decode(latents.data(), 1, h, w, kAnyMemory, out.data() + encoded, nullptr);
}

void tiny_vaes() {
  TinyVaeConfig three, wide;
  three.width = 8;
  three.encoder_blocks = {1, 2, 1};
  three.decoder_blocks = {2, 1, 1};
  wide.latent_channels = 3;
  wide.width = 32;
  wide.encoder_blocks = wide.decoder_blocks = {1, 1};
  using Case = Subject<TinyVae, TinyVaeConfig>;
  compare(Case{
      "tiny, three levels", {"tiny-vae/three-levels/diffusion_pytorch_model.safetensors"}, three, call_tiny});
  compare(Case{"tiny, wide", {"tiny-vae/wide/diffusion_pytorch_model.safetensors"}, wide, call_tiny});
}

void call_text(TextEncoder& model, std::vector<float>& out) {
  std::vector<int32_t> tokens(3 * 77);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 31 % 131);
  out.resize(tokens.size() * static_cast<size_t>(model.config().width));
  model.encode({tokens.data(), 3, 77}, out.data(), nullptr, nullptr);
}

void text_encoders() {
  const TextEncoderConfig clip = text_encoder_config();
  TextEncoderConfig open = clip;
  open.width = 40;
  open.heads = 5;
  open.activation = Activation::gelu;
  using Case = Subject<TextEncoder, TextEncoderConfig>;
  compare(Case{"clip", {"models/clip/text_encoder/model.safetensors"}, clip, call_text});
  compare(Case{"open-clip", {"models/open-clip/text_encoder/model.safetensors"}, open, call_text});
}

void call_image_encoder(ImageEncoder& model, std::vector<float>& out) {
  const std::vector<float> images = input("images", 2 * 3 * 32 * 32);
  const int64_t hidden = 2 * model.config().length() * model.config().width;
  out.resize(static_cast<size_t>(hidden + 2 * model.config().projection_width));
  model.encode(images.data(), 2, 1, out.data(), out.data() + hidden, nullptr);
}

void image_encoders() {
  using Case = Subject<ImageEncoder, ImageEncoderConfig>;
  compare(Case{
      "image encoder", {"vision/open-clip/model.safetensors"}, image_encoder_config(), call_image_encoder});
}

const Register suite([] {
  tiny_vaes();
  text_encoders();
  image_encoders();
  if (small()) return;
  unets();
  k_unets();
  vaes();
});

}  // namespace
}  // namespace nd::cuda_test
