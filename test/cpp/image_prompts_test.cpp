// Images that a UNet attends to beside the context, on the CPU and on the reference backend. Pictures are
// compared with diffusers' by test/adapters/ip-adapter.test.ts.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "control/ip_adapter.h"
#include "core/error.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"
#include "random_model.h"
#include "reference_backend.h"
#include "unet/unet.h"

namespace nd::test {
namespace {

constexpr double kTolerance = 1e-4;
constexpr int64_t kH = 7, kW = 9, kLatents = 4 * kH * kW, kTokens = 5;

/// Of the fixture control/sd1.
UnetConfig small_unet() {
  UnetConfig config;
  config.block_channels = {8, 16};
  config.layers_per_block = {1, 1};
  config.down_transformer_depth = {1, 0};
  config.up_transformer_depth = {1, 0};
  config.heads = {2, 2};
  config.context_width = 16;
  config.norm_groups = 4;
  return config;
}

std::unique_ptr<Unet> load_unet(Backend& backend) {
  WeightTable table;
  add_safetensors(table, std::string(ND_FIXTURES) + "/control/sd1/unet/diffusion_pytorch_model.safetensors");
  Loader loader(table, backend, {Precision::f32});
  return std::make_unique<Unet>(small_unet(), loader);
}

std::unique_ptr<IpAdapter> load_adapter(Backend& backend, ImageProjectionConfig::Kind kind) {
  IpAdapterConfig config;
  config.unet = small_unet();
  ImageProjectionConfig& image = config.projection;
  image.kind = kind;
  image.width = 20, image.context_width = 16, image.tokens = 3, image.hidden = 24;
  image.layers = 2, image.heads = 2, image.head_dim = 8, image.intermediate = 40;
  if (kind == ImageProjectionConfig::Kind::face_resampler)
    image.hidden = 16, image.face_width = 12, image.face_hidden = 20, image.shortcut = true;
  return load_random<IpAdapter>(backend, config);
}

/// Two embeddings of two images each; with a mask, one that falls from left to right.
void encode(IpAdapter& adapter, KeptTensors& to, bool masked, const CancelToken* cancel = nullptr) {
  const int64_t rows = adapter.config().projection.kind == ImageProjectionConfig::Kind::linear ? 1 : 6;
  const std::vector<float> embeddings = noise("embeddings", 2 * 2 * rows * 20);
  std::vector<float> masks;
  const std::vector<float> faces = noise("faces", 2 * 2 * 12);
  ImagePromptInput input{embeddings.data(), 2, 2, rows};
  input.faces = faces.data();
  if (masked) {
    input.h = kH, input.w = kW;
    masks.resize(static_cast<size_t>(adapter.mask_floats(kH, kW)));
    for (size_t i = 0; i < masks.size(); ++i) masks[i] = static_cast<float>(i % 9) / 8;
    input.masks = masks.data();
  }
  adapter.encode(input, to, cancel);
}

/// Two rows, which attend to these rows of the prompts.
std::vector<float> predict(Unet& unet, const std::vector<const KeptTensors*>& kept,
                           const std::vector<int32_t>& rows = {1, 0}, float scale = 0.7f) {
  const std::vector<float> latents = noise("latents", 2 * kLatents),
                           context = noise("context", 2 * kTokens * 16);
  const float timesteps[] = {981.0f, 17.5f};
  std::vector<ImagePrompt> prompts;
  for (const KeptTensors* one : kept) {
    ImagePrompt prompt;
    prompt.kept = one;
    prompt.rows = rows;
    prompt.scale = scale;
    prompts.push_back(std::move(prompt));
  }
  UnetInput input{latents.data(), 2, kH, kW, {timesteps, context.data(), kTokens}};
  if (!prompts.empty()) input.conditioning.images = &prompts;
  std::vector<float> out(latents.size());
  unet.predict(input, out.data(), nullptr);
  return out;
}

std::vector<float> whole(Backend& backend, ImageProjectionConfig::Kind kind, bool masked) {
  const auto adapter = load_adapter(backend, kind);
  KeptTensors first, second;
  encode(*adapter, first, masked);
  encode(*adapter, second, false);
  return predict(*load_unet(backend), {&first, &second});
}

std::string error_of(Unet& unet, const KeptTensors& kept, const std::vector<int32_t>& rows) {
  try {
    predict(unet, {&kept}, rows);
    return "accepted";
  } catch (const Error& error) {
    return error.code() == ErrorCode::invalid_argument ? error.what() : "wrong code";
  }
}

const Register suite([] {
  using Kind = ImageProjectionConfig::Kind;
  const std::pair<const char*, Kind> kinds[] = {
      {"linear", Kind::linear},
      {"mlp", Kind::mlp},
      {"resampler", Kind::resampler},
      {"face resampler", Kind::face_resampler},
  };
  for (const auto& [name, kind] : kinds)
    for (const bool masked : {false, true})
      test(std::string("image prompts/ ") + name + (masked ? " with a mask" : "") + " on both backends",
           [kind = kind, masked] {
             ReferenceBackend reference;
             return compare(whole(backend_of(), kind, masked), whole(reference, kind, masked), kTolerance);
           });
  test("image prompts/ rows attend to their own embeddings", [] {
    const auto adapter = load_adapter(backend_of(), Kind::linear);
    const auto unet = load_unet(backend_of());
    KeptTensors kept;
    encode(*adapter, kept, false);
    const std::vector<float> plain = predict(*unet, {}), mixed = predict(*unet, {&kept}, {1, 0}),
                             first = predict(*unet, {&kept}, {0, 0}),
                             second = predict(*unet, {&kept}, {1, 1});
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b, int64_t row) {
      return std::equal(a.begin() + row * kLatents, a.begin() + (row + 1) * kLatents,
                        b.begin() + row * kLatents);
    };
    if (!same(mixed, second, 0) || !same(mixed, first, 1)) return "a row attends to another embedding";
    if (same(first, second, 0) || same(first, plain, 0)) return "the embeddings have no effect";
    return predict(*unet, {&kept}, {0, 1}, 0) == plain ? "" : "a scale of 0 has an effect";
  });
  test("image prompts/ a prediction holds no more than working_bytes", [] {
    const auto adapter = load_adapter(backend_of(), Kind::resampler);
    const auto unet = load_unet(backend_of());
    KeptTensors kept;
    encode(*adapter, kept, true);
    predict(*unet, {&kept});
    ImagePrompt prompt;
    prompt.count = 2, prompt.length = 6;
    const size_t expected = unet->working_bytes(2, kH, kW, kTokens, {}, {prompt});
    if (unet->held_bytes() > expected) return "holds more";
    const ImagePromptMemory memory = adapter->memory({nullptr, 2, 2, 6, nullptr, kH, kW});
    return memory.kept == kept.bytes(sizeof(float)) && memory.working > 0 ? ""
                                                                          : "keeps another number of bytes";
  });
  test("image prompts/ encoding can be cancelled", [] {
    const auto adapter = load_adapter(backend_of(), Kind::resampler);
    const auto unet = load_unet(backend_of());
    KeptTensors kept;
    encode(*adapter, kept, true);
    const std::vector<float> expected = predict(*unet, {&kept});
    return cancel_everywhere(
        3, [&](const CancelToken* token) { encode(*adapter, kept, true, token); },
        [&] {
          encode(*adapter, kept, true);
          return std::string(predict(*unet, {&kept}) == expected ? "" : "differs after a cancelled call");
        });
  });
  test("image prompts/ prompts of another kind are refused", [] {
    const auto adapter = load_adapter(backend_of(), Kind::linear);
    const auto unet = load_unet(backend_of());
    KeptTensors kept, none;
    encode(*adapter, kept, false);
    for (const std::vector<int32_t>& rows : {std::vector<int32_t>{0, 2}, {0, -1}, {0}}) {
      const std::string message = error_of(*unet, kept, rows);
      if (message.find("row") == std::string::npos) return "unexpected: " + message;
    }
    const std::string message = error_of(*unet, none, {0, 0});
    if (message.find("Expected image prompts") == std::string::npos) return "unexpected: " + message;
    ReferenceBackend reference;
    const std::string foreign = error_of(*load_unet(reference), kept, {0, 0});
    return foreign.find("Expected image prompts") == std::string::npos ? "unexpected: " + foreign
                                                                       : std::string();
  });
  test("image prompts/ masks for latents of another size are refused", [] {
    const auto adapter = load_adapter(backend_of(), Kind::linear);
    KeptTensors kept;
    const std::vector<float> embeddings = noise("embeddings", 20),
                             masks(static_cast<size_t>(adapter->mask_floats(4, 4)));
    adapter->encode({embeddings.data(), 1, 1, 1, masks.data(), 4, 4}, kept, nullptr);
    const std::string message = error_of(*load_unet(backend_of()), kept, {0, 0});
    return message.find("Expected masks") == std::string::npos ? "unexpected: " + message : std::string();
  });
  test("image prompts/ a config that cannot be is refused", [] {
    IpAdapterConfig config;
    config.unet = small_unet();
    config.projection.width = 20, config.projection.context_width = 17;
    try {
      required_tensors<IpAdapter>(config);
      return "no error";
    } catch (const Error& error) {
      return std::string(error.what()).find("contextWidth of 16") != std::string::npos ? "" : "another error";
    }
  });
});

}  // namespace
}  // namespace nd::test
