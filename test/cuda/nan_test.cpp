// Weights that are NaN or infinite: what they spoil is not finite on a GPU either, so that callers are told,
// instead of a picture that looks plausible.
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <limits>

#include "emulator.h"
#include "fixture_models.h"
#include "support.h"
#include "text/text_encoder.h"
#include "unet/k_unet.h"
#include "unet/unet.h"
#include "vae/tiny.h"
#include "vae/vae.h"
#include "weights/formats/half.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(),
                kInfinity = std::numeric_limits<float>::infinity();

// --- kernels ---

/// What a kernel writes for these numbers: themselves, or the largest fp16 value of this sign.
std::string rounding(const std::vector<float>& given, const std::vector<float>& got, bool relu = false) {
  for (size_t i = 0; i < given.size(); ++i) {
    float want = given[i];
    if (std::abs(want) < kInfinity) want = std::min(std::max(want, -65504.0f), 65504.0f);
    if (relu && want < 0) want = 0;
    if (std::isnan(want) ? !std::isnan(got[i]) : !(got[i] == want))
      return text(given[i]) + " became " + text(got[i]);
  }
  return "";
}

/// With an aligned count, and with one that is none of eights.
const std::vector<float> kEight = {kNan, kInfinity, -kInfinity, 1e6f, -1e6f, 0.5f, -2, 0},
                         kFive = {1, kNan, -1e5f, -kInfinity, kInfinity};

void kernels() {
  for (const std::vector<float>& values : {kEight, kFive}) {
    const int64_t c = static_cast<int64_t>(values.size());
    const std::string channels = ", " + std::to_string(c) + " channels";
    in_all_orders("cuda/not finite from planes" + channels, [&] {
      const Array planes = Array::floats(values), rows(c * 2);
      launch(Kernel::planar_to_rows, {1, 1, 1},
             PlanarArgs{planes.as<float>(), rows.as<half>(), narrow(c), 1, narrow(c), 1.0f, 0.0f});
      return rounding(values, rows.read_halves(c));
    });
    // Through the bias of a product of zeros.
    for (const bool relu_after : {false, true})
      for (const ProductActivation activation : {ProductActivation::none, ProductActivation::relu})
        in_all_orders(
            "cuda/not finite after a product, activation " + std::to_string(static_cast<int>(activation)) +
                (relu_after ? ", relu" : "") + channels,
            [&] {
              std::vector<float> padded = values;
              padded.resize(8);
              const Array x = Array::halves(std::vector<float>(8)), y(c * 2),
                          weights = Array::halves(std::vector<float>(static_cast<size_t>(c * 8))),
                          bias = Array::floats(padded);
              ProductArgs a{};
              a.x = x.as<half>(), a.weights = weights.as<half>(), a.bias = bias.as<float>();
              a.y = y.as<half>();
              a.m = 1, a.o = a.y_columns = narrow(c), a.c = 8, a.chunks = a.weights_chunks = 1;
              a.grid_w = a.grid_pixels = a.h = a.w = a.stride = a.kernel_w = 1;
              a.out_h = a.out_w = a.out_step = a.parities = a.splits = a.split_steps = a.span = 1;
              a.alpha = 1, a.activation = activation, a.relu_after_residual = relu_after;
              launch(Kernel::product_small_pointwise, {1, 1, 1}, a);
              return rounding(values, y.read_halves(c), relu_after || activation == ProductActivation::relu);
            });
  }
}

// --- models ---

/// A copy of a fixture's file in which the middle element of one tensor has this value.
class Spoiled {
 public:
  Spoiled(const std::string& file, const std::string& tensor, float value)
      : path_(temporary_path("spoiled.safetensors").u8string()) {
    std::ifstream from(std::string(ND_FIXTURES) + "/" + file, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(from), {}};
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    const std::string header = bytes.substr(8, static_cast<size_t>(length));
    const size_t at = header.find('"' + tensor + '"');
    if (at == std::string::npos) throw Error(ErrorCode::io, file + " has no " + tensor);
    const std::vector<int64_t> place = numbers_after(header, "data_offsets", at);
    const bool fp16 = header.compare(header.find("dtype", at) + 8, 3, "F16") == 0;
    const int64_t element = fp16 ? 2 : 4, count = (place[1] - place[0]) / element;
    char* to = bytes.data() + 8 + length + place[0] + count / 2 * element;
    const uint16_t narrow_value = to_half(value);
    if (fp16)
      std::memcpy(to, &narrow_value, sizeof narrow_value);
    else
      std::memcpy(to, &value, sizeof value);
    std::ofstream(path_, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  ~Spoiled() { std::remove(path_.c_str()); }
  Spoiled(const Spoiled&) = delete;
  Spoiled& operator=(const Spoiled&) = delete;

  template <class Model, class Config>
  std::unique_ptr<Model> load(Backend& backend, const Config& config) const {
    WeightTable table;
    add_safetensors(table, path_);
    Loader loader(table, backend, {Precision::f32});
    return std::make_unique<Model>(config, loader);
  }

 private:
  std::string path_;
};

/// Whatever is not finite on the CPU is not finite on the GPU.
std::string as_on_the_cpu(const std::vector<float>& cpu, const std::vector<float>& gpu) {
  int64_t spoiled = 0;
  for (size_t i = 0; i < cpu.size(); ++i) {
    if (std::isfinite(cpu[i])) continue;
    ++spoiled;
    if (std::isfinite(gpu[i])) return "element " + std::to_string(i) + " is " + text(gpu[i]);
  }
  return spoiled ? "" : "the CPU's result is finite";
}

template <class Model, class Config, class Call>
void compare(const char* name, const char* file, const Config& config,
             const std::vector<const char*>& tensors, const Call& call) {
  for (const char* tensor : tensors)
    for (const float value : {kNan, kInfinity})
      in_orders({0}, std::string("cuda/not finite ") + name + ", " + tensor + " " + text(value), [&] {
        const Spoiled weights(file, tensor, value);
        const auto result = [&](Backend& on) { return call(*weights.template load<Model>(on, config)); };
        return as_on_the_cpu(result(backend_of()), result(backend()));
      });
}

void models() {
  compare<TinyVae>(
      "tiny autoencoder", "tiny-vae/three-levels/diffusion_pytorch_model.safetensors",
      [] {
        TinyVaeConfig config;
        config.width = 8;
        config.encoder_blocks = {1, 2, 1};
        config.decoder_blocks = {2, 1, 1};
        return config;
      }(),
      {"decoder.layers.0.weight", "decoder.layers.2.conv.4.bias"},
      [](TinyVae& model) {
        const int64_t f = model.config().factor();
        std::vector<float> out(static_cast<size_t>(3 * 9 * f * f));
        model.decode(noise("latents", 4 * 9).data(), 1, 3, 3, kAnyMemory, out.data(), nullptr);
        return out;
      });
  VaeConfig kl;
  kl.block_channels = {8, 8, 16, 16};
  kl.layers_per_block = 2;
  kl.norm_groups = 4;
  compare<Vae>("autoencoder", "models/vae-kl/vae/diffusion_pytorch_model.safetensors", kl,
               {"decoder.conv_in.weight", "decoder.mid_block.attentions.0.to_k.weight",
                "decoder.up_blocks.3.resnets.0.norm1.weight", "decoder.conv_out.bias"},
               [](Vae& model) {
                 std::vector<float> out(3 * 16 * 16);
                 model.decode(noise("latents", 4 * 2 * 2).data(), 1, 2, 2, kAnyMemory, out.data(), nullptr);
                 return out;
               });
  compare<TextEncoder>("text encoder", "models/clip/text_encoder/model.safetensors", text_encoder_config(),
                       {"encoder.layers.0.self_attn.v_proj.weight", "encoder.layers.2.layer_norm2.bias",
                        "encoder.layers.1.mlp.fc1.weight"},
                       [](TextEncoder& model) {
                         const std::vector<int32_t> tokens = {1, 5, 9, 2};
                         std::vector<float> out(4 * static_cast<size_t>(model.config().width));
                         model.encode({tokens.data(), 1, 4}, out.data(), nullptr, nullptr);
                         return out;
                       });
  compare<Unet>(
      "UNet", "models/sd1/unet/diffusion_pytorch_model.safetensors", unet_config(),
      {"conv_in.weight", "time_embedding.linear_1.weight",
       "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight",
       "mid_block.attentions.0.transformer_blocks.0.attn2.to_v.weight",
       "down_blocks.2.attentions.0.transformer_blocks.0.ff.net.2.weight",
       "up_blocks.1.attentions.1.transformer_blocks.0.norm2.weight", "conv_out.bias"},
      [](Unet& model) {
        const std::vector<float> latents = noise("latents", 4 * 4 * 4), context = noise("context", 9 * 20);
        const float timestep = 981;
        std::vector<float> out(latents.size());
        model.predict({latents.data(), 1, 4, 4, {&timestep, context.data(), 9}}, out.data(), nullptr);
        return out;
      });
}

const Register suite([] {
  kernels();
  if (!small() && !emu::checking) models();
});

}  // namespace
}  // namespace nd::cuda_test
