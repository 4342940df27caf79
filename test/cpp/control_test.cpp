// ControlNets for several kinds of pictures and ControlLLLites, on the CPU and on the reference backend.
// Pictures are compared with diffusers' by test/adapters/.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "control/control_lllite.h"
#include "control/control_net.h"
#include "core/error.h"
#include "random_model.h"
#include "reference_backend.h"
#include "unet/unet.h"

namespace nd::test {
namespace {

constexpr double kTolerance = 1e-4;
constexpr int64_t kH = 6, kW = 8, kFactor = 4, kTokens = 5, kPooled = 12, kTimeIds = 2;

UnetConfig small_unet() {
  UnetConfig config;
  config.block_channels = {8, 16};
  config.layers_per_block = {1, 1};
  config.down_transformer_depth = {1, 2};
  config.up_transformer_depth = {1, 2};
  config.heads = {2, 2};
  config.context_width = 16;
  config.norm_groups = 4;
  return config;
}

/// Networks of the encoder's three blocks, of which the second has two.
ControlLlliteConfig small_lllite() {
  ControlLlliteConfig config;
  config.condition_width = 4, config.width = 6;
  config.blocks = {{0, 8, {1, 1, 1, 1}, {4}}, {1, 16, {1, 0, 0, 1}, {4, 2}}, {2, 16, {0, 1, 1, 0}, {2, 4}}};
  return config;
}

/// Two pictures with which `lllite` changes two rows.
std::vector<float> predict(Unet& unet, const std::vector<ChangedInputs>& inputs, double merging = 0) {
  const std::vector<float> latents = noise("latents", 2 * 4 * kH * kW),
                           context = noise("context", 2 * kTokens * 16);
  const float timesteps[] = {981.0f, 17.5f};
  UnetInput input{latents.data(), 2, kH, kW, {timesteps, context.data(), kTokens}};
  if (!inputs.empty()) input.conditioning.inputs = &inputs;
  std::vector<float> out(latents.size());
  unet.predict(input, out.data(), nullptr, {merging});
  return out;
}

void embed(ControlLllite& lllite, KeptTensors& to) {
  const std::vector<float> pictures = noise("pictures", 2 * 3 * kFactor * kH * kFactor * kW);
  lllite.embed(pictures.data(), 2, kFactor * kH, kFactor * kW, to, nullptr);
}

std::vector<float> with_lllite(Backend& backend, double merging) {
  const auto unet = load_random<Unet>(backend, small_unet());
  const auto lllite = load_random<ControlLllite>(backend, small_lllite());
  KeptTensors kept;
  embed(*lllite, kept);
  return predict(*unet, {{lllite.get(), &kept, 0.7f, 0, 2}, {lllite.get(), &kept, 0.4f, 1, 1}}, merging);
}

std::string changed_rows() {
  const auto unet = load_random<Unet>(backend_of(), small_unet());
  const auto lllite = load_random<ControlLllite>(backend_of(), small_lllite());
  KeptTensors kept;
  embed(*lllite, kept);
  const std::vector<float> plain = predict(*unet, {}),
                           none = predict(*unet, {{lllite.get(), &kept, 0, 0, 2}}),
                           second = predict(*unet, {{lllite.get(), &kept, 1, 1, 1}});
  const auto half = static_cast<std::ptrdiff_t>(plain.size() / 2);
  if (std::string why = compare(none, plain, 1e-6); !why.empty()) return "a scale of 0: " + why;
  if (std::string why = compare(predict(*unet, {{lllite.get(), &kept, 1, 0, 0}}), plain, 1e-6); !why.empty())
    return "no rows: " + why;
  if (std::string why =
          compare({second.begin(), second.begin() + half}, {plain.begin(), plain.begin() + half}, 1e-6);
      !why.empty())
    return "a row that is not changed: " + why;
  const bool differs = !std::equal(second.begin() + half, second.end(), plain.begin() + half);
  return differs ? "" : "nothing was changed";
}

std::string refused() {
  const auto unet = load_random<Unet>(backend_of(), small_unet());
  const auto lllite = load_random<ControlLllite>(backend_of(), small_lllite());
  KeptTensors kept, empty, wider;
  embed(*lllite, kept);
  ControlLlliteConfig other = small_lllite();
  other.condition_width = 6;
  embed(*load_random<ControlLllite>(backend_of(), other), wider);
  const auto error_of = [&](const ChangedInputs& one) -> std::string {
    try {
      predict(*unet, {one});
      return "accepted";
    } catch (const Error& error) {
      return error.code() == ErrorCode::invalid_argument ? "" : "wrong code";
    }
  };
  for (const ChangedInputs& one : std::vector<ChangedInputs>{{lllite.get(), &empty, 1, 0, 2},
                                                             {lllite.get(), &wider, 1, 0, 2},
                                                             {lllite.get(), &kept, 1, 1, 2},
                                                             {lllite.get(), &kept, 1, -1, 2},
                                                             {nullptr, &kept, 1, 0, 2}})
    if (std::string why = error_of(one); !why.empty()) return why;
  const std::vector<float> picture = noise("picture", 3 * 12 * 8);
  // The least common multiple of the kernels exceeds 64 bits.
  ControlLlliteConfig coarse = small_lllite();
  coarse.blocks.clear();
  for (const int64_t kernel : {64, 49, 27, 25, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53})
    coarse.blocks.push_back({static_cast<int64_t>(coarse.blocks.size()), 8, {1, 0, 0, 0}, {kernel}});
  const std::pair<const char*, std::function<void()>> attempts[] = {
      {"a picture", [&] { lllite->embed(picture.data(), 1, 12, 8, kept, nullptr); }},
      {"the memory of a picture", [&] { lllite->memory(1, 4, 2, 2); }},
      {"kernels", [&] { coarse.check(); }}};
  for (const auto& [name, attempt] : attempts) try {
      attempt();
      return std::string("sides that are no multiple were accepted: ") + name;
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument) return "wrong code";
    }
  return "";
}

/// The UNet's prediction with the residuals of a union ControlNet that sees so many pictures.
std::vector<float> with_union(Backend& backend, size_t count) {
  ControlNetConfig config;
  config.unet = small_unet();
  config.unet.added_time_width = 6;
  config.unet.added_width = kPooled + kTimeIds * 6;
  config.unet.control_types = 3;
  config.image_widths = {4, 6, 8};
  config.fusion_layers = 2;
  const auto unet = load_random<Unet>(backend, small_unet());
  const auto net = load_random<ControlNet>(backend, config);
  const std::vector<float> latents = noise("latents", 2 * 4 * kH * kW),
                           context = noise("context", 2 * kTokens * 16),
                           pooled = noise("pooled", 2 * kPooled), sizes = noise("sizes", 2 * kTimeIds);
  const float timesteps[] = {981.0f, 17.5f}, types[] = {1, 0, 1, 1, 0, 1};
  ControlInput input;
  input.unet = {latents.data(), 2, kH, kW, {timesteps, context.data(), kTokens}};
  Conditioning& given = input.unet.conditioning;
  given.pooled = pooled.data(), given.pooled_width = kPooled;
  given.time_ids = sizes.data(), given.time_id_count = kTimeIds;
  given.control_types = types;
  KeptTensors pictures[2], residuals;
  for (size_t i = 0; i < count; ++i) {
    const std::vector<float> picture = noise("picture " + std::to_string(i), 3 * kFactor * kH * kFactor * kW);
    const float scale = i == 0 ? 0.6f : 0.9f;
    net->embed({picture.data(), 1, kH, kW, static_cast<int64_t>(2 * i), scale}, pictures[i], nullptr);
    input.pictures.push_back({&pictures[i], scale});
  }
  input.scales.assign(static_cast<size_t>(net->residuals()), 0.8f);
  input.residuals = &residuals;
  input.total = 2;
  net->predict(input, nullptr);
  UnetInput plain{latents.data(), 2, kH, kW, {timesteps, context.data(), kTokens}};
  plain.conditioning.residuals = &residuals;
  std::vector<float> out(latents.size());
  unet->predict(plain, out.data(), nullptr);
  return out;
}

const Register suite([] {
  for (const double merging : {0.0, 0.5})
    test(std::string("control/ ControlLLLite on both backends") + (merging > 0 ? " with merged tokens" : ""),
         [merging] {
           ReferenceBackend reference;
           return compare(with_lllite(backend_of(), merging), with_lllite(reference, merging), kTolerance);
         });
  test("control/ ControlLLLite changes the rows that it is given", changed_rows);
  test("control/ ControlLLLite refuses what it was not made for", refused);
  for (const size_t count : {1, 2})
    test("control/ union of " + std::to_string(count) + " on both backends", [count] {
      ReferenceBackend reference;
      return compare(with_union(backend_of(), count), with_union(reference, count), kTolerance);
    });
});

}  // namespace
}  // namespace nd::test
