#include "golden.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/error.h"
#include "fixture_models.h"
#include "harness.h"

namespace nd::test {
namespace {

const std::string& golden_file() {
  static const std::string content = [] {
    std::ifstream file(std::string(ND_FIXTURES) + "/models/golden.safetensors", std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  }();
  return content;
}

template <class T>
std::vector<float> numbers(const char* bytes, size_t length) {
  std::vector<T> raw(length / sizeof(T));
  std::memcpy(raw.data(), bytes, raw.size() * sizeof(T));
  return {raw.begin(), raw.end()};
}

UnetConfig unet(std::vector<int64_t> channels, std::vector<int64_t> layers, std::vector<Depths> down,
                std::vector<Depths> up, std::vector<int64_t> heads, int64_t context, int64_t groups) {
  UnetConfig config;
  config.block_channels = std::move(channels);
  config.layers_per_block = std::move(layers);
  config.down_transformer_depth = std::move(down);
  config.up_transformer_depth = std::move(up);
  config.heads = std::move(heads);
  config.context_width = context;
  config.norm_groups = groups;
  return config;
}

VaeConfig vae(std::vector<int64_t> channels, int64_t layers, int64_t groups) {
  VaeConfig config;
  config.block_channels = std::move(channels);
  config.layers_per_block = layers;
  config.norm_groups = groups;
  return config;
}

}  // namespace

bool has_golden(const std::string& name) {
  return golden_file().find("\"" + name + "\"") != std::string::npos;
}

GoldenTensor golden(const std::string& name) {
  const std::string& file = golden_file();
  uint64_t length = 0;
  std::memcpy(&length, file.data(), std::min<size_t>(8, file.size()));
  const std::string header = file.substr(8, length);
  const size_t at = header.find("\"" + name + "\"");
  if (at == std::string::npos) throw Error(ErrorCode::model_format, "no golden tensor " + name);
  const size_t type = header.find("\"dtype\"", at);
  const std::string kind = header.substr(header.find('"', type + 8) + 1, 3);
  const std::vector<int64_t> place = numbers_after(header, "data_offsets", at);
  const char* bytes = file.data() + 8 + length + place[0];
  const size_t size = static_cast<size_t>(place[1] - place[0]);
  GoldenTensor tensor;
  tensor.shape = numbers_after(header, "shape", at);
  tensor.values = kind == "F32"   ? numbers<float>(bytes, size)
                  : kind == "I32" ? numbers<int32_t>(bytes, size)
                                  : numbers<int64_t>(bytes, size);
  return tensor;
}

std::vector<GoldenUnet> golden_unets() {
  std::vector<GoldenUnet> all;
  all.push_back({"sd1", unet_config(), 4});
  all.push_back({"sd2", unet({10, 15, 20}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}, {2, 3, 4}, 24, 5), 2});
  all.push_back({"inpainting", unet({8, 16}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 8), 2});
  all.back().config.in_channels = 9;
  all.push_back({"deep-attention", unet({8, 12, 16}, {1, 2, 1}, {0, 1, 1}, {0, 1, 1}, {1, 3, 8}, 20, 4), 2});
  all.push_back({"depth-2", unet({8, 16}, {1, 1}, {1, 2}, {1, 2}, {2, 4}, 17, 4), 1});
  all.back().config.mid_transformer_depth = 2;
  all.push_back({"no-middle", unet({12, 16}, {1, 1}, {1, 1}, {1, 1}, {2, 4}, 20, 4), 2});
  all.back().config.mid_transformer_depth = -1;
  all.back().config.flip_sin_to_cos = false;
  all.back().config.freq_shift = 1;
  all.back().config.norm_eps = 1e-4f;
  all.push_back({"plain-middle", unet({8, 12}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 4), 2});
  all.back().config.mid_transformer_depth = 0;
  all.push_back({"sdxl", unet({8, 12, 16}, {2, 2, 2}, {0, 2, 3}, {0, 2, 3}, {1, 3, 4}, 24, 4), 2});
  all.back().config.mid_transformer_depth = 3;
  all.back().config.added_width = 20 + 6 * 8, all.back().config.added_time_width = 8;
  all.push_back({"sdxl-refiner",
                 unet({8, 12, 12, 16}, {1, 1, 1, 1}, {0, 2, 2, 0}, {0, 2, 2, 0}, {2, 3, 3, 4}, 20, 4), 1});
  all.back().config.mid_transformer_depth = 2;
  all.back().config.added_width = 20 + 5 * 8, all.back().config.added_time_width = 8;
  const std::vector<Depths> down = {0, Depths({2, 1}), 2}, up = {0, Depths({1, 1, 3}), Depths({2, 3, 1})};
  all.push_back({"uneven", unet({8, 12, 16}, {2, 2, 2}, down, up, {1, 3, 4}, 24, 4), 2});
  all.back().config.mid_transformer_depth = -1;
  all.back().config.added_width = 20 + 6 * 8, all.back().config.added_time_width = 8;
  all.push_back({"guidance-embedding", unet({8, 16}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 4), 2});
  all.back().config.guidance_width = 12;
  all.push_back({"class-table", unet({8, 16}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 4), 1});
  all.back().config.in_channels = 7;
  all.back().config.class_embedding = ClassEmbedding::table, all.back().config.class_count = 50;
  all.push_back({"class-timestep", unet({8, 16}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 4), 1});
  all.back().config.class_embedding = ClassEmbedding::timestep;
  all.push_back({"class-projection", unet({8, 16}, {1, 1}, {1, 0}, {1, 0}, {4, 4}, 20, 4), 1});
  all.back().config.class_embedding = ClassEmbedding::projection, all.back().config.class_width = 14;
  return all;
}

std::vector<GoldenVae> golden_vaes() {
  std::vector<GoldenVae> all;
  all.push_back({"vae-kl",
                 vae({8, 8, 16, 16}, 2, 4),
                 {"0-encode", "1-decode", "2-encode", "3-decode", "4-encode", "5-decode"}});
  all.push_back({"vae-plain", vae({12, 20}, 1, 4), {"0-encode", "1-decode", "2-encode", "3-decode"}});
  VaeConfig& plain = all.back().config;
  plain.latent_channels = 5;
  plain.mid_attention = plain.quant_conv = plain.post_quant_conv = false;
  all.push_back({"vq", vae({8, 8, 16}, 1, 4), {"0-encode", "1-quantize", "2-lookup", "3-decode"}});
  VaeConfig& quantized = all.back().config;
  quantized.latent_channels = quantized.codebook_width = 3;
  quantized.codebook_size = 37;
  return all;
}

std::vector<GoldenText> golden_texts() {
  const TextEncoderConfig clip = text_encoder_config();
  TextEncoderConfig open_clip = clip;
  open_clip.width = 40;
  open_clip.heads = 5;
  open_clip.activation = Activation::gelu;
  TextEncoderConfig projected = open_clip;
  projected.projection_width = 24;
  return {{"clip-projection", projected, {{"0-encode_text", 1}, {"1-encode_text", 0}, {"2-encode_text", 2}}},
          {"clip", clip, {{"0-encode_text", 0}, {"1-encode_text", 1}, {"2-encode_text", 0}}},
          {"open-clip", open_clip, {{"0-encode_text", 0}, {"1-encode_text", 2}}}};
}

std::string weights_of(const std::string& model, const std::string& component) {
  return model + "/" + component +
         (component == "text_encoder" ? "/model.safetensors" : "/diffusion_pytorch_model.safetensors");
}

std::string compare(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
  if (found.size() != expected.size())
    return std::to_string(found.size()) + " elements instead of " + std::to_string(expected.size());
  double largest = 0;
  for (const float value : expected) largest = std::max(largest, std::fabs(static_cast<double>(value)));
  for (size_t i = 0; i < found.size(); ++i) {
    const double error = std::fabs(static_cast<double>(found[i]) - expected[i]);
    if (!(error <= tolerance * largest))
      return "element " + std::to_string(i) + " is off by " + text(error) + " of " + text(largest);
  }
  return "";
}

namespace {

/// A text of which every n-th word, or with 0 none, is a vector of the caller: the one that the model itself
/// has for it.
struct OwnVectors {
  std::vector<int32_t> ids;
  std::vector<float> vectors;
  int64_t count = 0;

  OwnVectors(Backend& backend, const GoldenText& of, std::vector<int32_t> tokens, size_t every)
      : ids(std::move(tokens)) {
    WeightTable table;
    add_component(table, std::string(ND_FIXTURES) + "/models/" + weights_of(of.name, "text_encoder"));
    const StoredTensor& words = table.find("embeddings.token_embedding.weight");
    const int64_t width = of.config.width;
    for (size_t i = 0; every > 0 && i < ids.size(); i += every) {
      vectors.resize(static_cast<size_t>((count + 1) * width));
      words.read(backend.decoders(), ids[i] * width, width, vectors.data() + count * width);
      ids[i] = static_cast<int32_t>(of.config.vocab_size + count++);
    }
  }
};

}  // namespace

void golden_tests(const std::string& prefix, Backend& backend, double tolerance) {
  for (const GoldenUnet& of : golden_unets())
    for (int i = 0; i < of.cases; ++i) {
      const std::string name = of.name + "/" + std::to_string(i) + "-predict";
      test(prefix + name, [&] {
        const auto model =
            load_model<Unet>(backend, weights_of(of.name, "unet"), of.config, nullptr, Precision::f32);
        const GoldenTensor latents = golden(name + "/latents"), context = golden(name + "/context"),
                           timesteps = golden(name + "/timesteps"), output = golden(name + "/output");
        Conditioning conditioning{timesteps.values.data(), context.values.data(), context.shape[1]};
        GoldenTensor pooled, time_ids, guidance, classes;
        if (has_golden(name + "/pooled")) {
          pooled = golden(name + "/pooled"), time_ids = golden(name + "/time_ids");
          conditioning.pooled = pooled.values.data(), conditioning.pooled_width = pooled.shape[1];
          conditioning.time_ids = time_ids.values.data(), conditioning.time_id_count = time_ids.shape[1];
        }
        if (has_golden(name + "/guidance")) {
          guidance = golden(name + "/guidance");
          conditioning.guidance = guidance.values.data();
        }
        if (has_golden(name + "/classes")) {
          classes = golden(name + "/classes");
          conditioning.classes = classes.values.data();
        }
        std::vector<float> found(output.values.size());
        model->predict(
            {latents.values.data(), latents.shape[0], latents.shape[2], latents.shape[3], conditioning},
            found.data(), nullptr);
        return compare(found, output.values, tolerance);
      });
    }
  for (const GoldenVae& of : golden_vaes())
    for (const std::string& kind : of.cases) {
      const std::string name = of.name + "/" + kind;
      test(prefix + name, [&] {
        const auto model =
            load_model<Vae>(backend, weights_of(of.name, "vae"), of.config, nullptr, Precision::f32);
        const GoldenTensor output = golden(name + "/output");
        std::vector<float> found(output.values.size());
        if (kind.find("encode") != std::string::npos) {
          const GoldenTensor image = golden(name + "/image");
          model->encode(image.values.data(), image.shape[0], image.shape[2], image.shape[3], kAnyMemory,
                        found.data(), nullptr);
        } else if (kind.find("decode") != std::string::npos) {
          const GoldenTensor latents = golden(name + "/latents");
          model->decode(latents.values.data(), latents.shape[0], latents.shape[2], latents.shape[3],
                        kAnyMemory, found.data(), nullptr);
        } else if (kind.find("quantize") != std::string::npos) {
          const GoldenTensor latents = golden(name + "/latents");
          std::vector<int32_t> codes(output.values.size());
          model->quantize(latents.values.data(), latents.shape[0], latents.shape[2], latents.shape[3],
                          codes.data(), nullptr);
          found.assign(codes.begin(), codes.end());
          return compare(found, output.values, 0);
        } else {
          const GoldenTensor codes = golden(name + "/codes");
          model->lookup(codes.integers().data(), codes.shape[0], codes.shape[1], codes.shape[2],
                        found.data());
        }
        return compare(found, output.values, tolerance);
      });
    }
  for (const GoldenText& of : golden_texts())
    for (const auto& [kind, skip] : of.cases) {
      const std::string name = of.name + "/" + kind;
      for (const bool vectors : {false, true})
        test(prefix + name + (vectors ? " with vectors" : ""), [&, skip = skip] {
          const auto model = load_model<TextEncoder>(backend, weights_of(of.name, "text_encoder"), of.config,
                                                     nullptr, Precision::f32);
          const GoldenTensor tokens = golden(name + "/tokens"), output = golden(name + "/output");
          std::vector<float> found(output.values.size());
          const OwnVectors given(backend, of, tokens.integers(), vectors ? 3 : 0);
          TextInput input;
          input.tokens = given.ids.data(), input.n = tokens.shape[0], input.length = tokens.shape[1];
          input.vectors = given.vectors.data(), input.vector_count = given.count;
          input.skip = skip;
          if (!has_golden(name + "/pooled")) {
            model->encode(input, found.data(), nullptr, nullptr);
            return compare(found, output.values, tolerance);
          }
          const GoldenTensor pooled = golden(name + "/pooled");
          const std::vector<int32_t> positions = golden(name + "/positions").integers();
          std::vector<float> found_pooled(pooled.values.size());
          input.pooled_positions = positions.data();
          input.final_norm = false;
          model->encode(input, found.data(), found_pooled.data(), nullptr);
          const std::string why = compare(found, output.values, tolerance);
          return why.empty() ? compare(found_pooled, pooled.values, tolerance) : why;
        });
    }
}

}  // namespace nd::test
