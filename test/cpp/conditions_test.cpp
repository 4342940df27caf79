// Conditions that are embedded with the timestep: each is a part of the cache's key, and a model requires
// exactly its own.
#include <algorithm>
#include <cstring>
#include <memory>

#include "core/error.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"
#include "unet/unet.h"

namespace nd::test {
namespace {

const GoldenUnet& golden_unet(const std::string& name) {
  static const std::vector<GoldenUnet> all = golden_unets();
  return *std::find_if(all.begin(), all.end(), [&](const GoldenUnet& of) { return of.name == name; });
}

std::unique_ptr<Unet> load(const std::string& name) {
  return load_model<Unet>(weights_of(name, "unet").c_str(), golden_unet(name).config);
}

/// Two images with these conditions.
struct Conditions {
  std::vector<float> timesteps = {500, 500}, pooled, time_ids, guidance, classes;

  Conditioning view(const float* context = nullptr, int64_t length = 0) const {
    const auto given = [](const std::vector<float>& values) {
      return values.empty() ? nullptr : values.data();
    };
    Conditioning result{timesteps.data(), context, length};
    result.pooled = given(pooled), result.pooled_width = static_cast<int64_t>(pooled.size()) / 2;
    result.time_ids = given(time_ids), result.time_id_count = static_cast<int64_t>(time_ids.size()) / 2;
    result.guidance = given(guidance);
    result.classes = given(classes);
    return result;
  }
  std::vector<float> predict(Unet& unet) const {
    const UnetConfig& config = unet.config();
    const std::vector<float> latents = noise("latents", 2 * config.in_channels * 30),
                             context = noise("context", 2 * 5 * config.context_width);
    std::vector<float> out(static_cast<size_t>(2 * config.out_channels * 30));
    unet.predict({latents.data(), 2, 5, 6, view(context.data(), 5)}, out.data(), nullptr);
    return out;
  }
};

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Case {
  const char* model;
  Conditions given, changed;  // another value of one condition
};

std::vector<Case> cases() {
  Conditions sdxl, scale, number, label, vector;
  sdxl.pooled = noise("pooled", 2 * 20);
  sdxl.time_ids = {64, 64, 0, 0, 64, 64, 64, 64, 0, 0, 64, 64};
  scale.guidance = {7.5f, 7.5f};
  number.classes = {20, 250};
  label.classes = {20, 49};
  vector.classes = noise("classes", 2 * 14);
  Conditions pooled = sdxl, size = sdxl, other_scale = scale, other_number = number, other_label = label,
             other_vector = vector;
  pooled.pooled[39] += 0.5f;
  size.time_ids[11] = 65;
  other_scale.guidance[1] = 3;
  other_number.classes[0] = 0;
  other_label.classes[1] = 0;
  other_vector.classes[27] += 0.5f;
  return {{"sdxl", sdxl, pooled},
          {"sdxl", sdxl, size},
          {"guidance-embedding", scale, other_scale},
          {"class-timestep", number, other_number},
          {"class-table", label, other_label},
          {"class-projection", vector, other_vector}};
}

std::string error_of(const std::string& model, const Conditions& given) {
  try {
    given.predict(*load(model));
  } catch (const Error& error) {
    return error.code() == ErrorCode::invalid_argument ? error.what() : "wrong code";
  }
  return "accepted";
}

const Register suite([] {
  int number = 0;
  for (const Case& one : cases()) {
    test("conditions/ " + std::to_string(number++) + " of " + one.model + " is a part of the cache's key",
         [&] {
           const auto unet = load(one.model);
           const std::vector<float> before = one.given.predict(*unet), after = one.changed.predict(*unet);
           if (same(before, after)) return "the condition has no effect";
           if (!same(one.changed.predict(*load(one.model)), after)) return "depends on an earlier call";
           return same(one.given.predict(*unet), before) ? "" : "the first call again differs";
         });
    test("conditions/ " + std::to_string(number) + " of " + one.model + " prepared", [&] {
      const auto unet = load(one.model);
      unet->prepare(one.given.view(), 2, nullptr);
      return same(one.given.predict(*unet), one.given.predict(*load(one.model))) ? "" : "differs";
    });
    test("conditions/ " + std::to_string(number) + " of " + one.model + " holds no more than working_bytes",
         [&] {
           const auto unet = load(one.model);
           one.given.predict(*unet);
           return unet->held_bytes() <= unet->working_bytes(2, 5, 6, 5) ? "" : "holds more";
         });
  }
  const auto refused = [](const std::string& what, const std::string& model, const Conditions& given,
                          const char* expected) {
    test("conditions/ refuses " + what, [=] {
      const std::string message = error_of(model, given);
      return message.find(expected) != std::string::npos ? "" : "unexpected: " + message;
    });
  };
  const Conditions none, sdxl = cases()[0].given;
  Conditions narrow = sdxl, wrong = cases()[4].given, fraction = wrong, scaled;
  narrow.pooled.resize(2 * 19);
  wrong.classes[1] = 50, fraction.classes[0] = 0.5f;
  scaled.guidance = {1, 1};
  refused("pooled text for a model without it", "sd1", sdxl, "a width of 0 together but received 20 and 6");
  refused("a model's missing pooled text", "sdxl", none, "a width of 68 together but received 0 and 0");
  refused("pooled text of another width", "sdxl", narrow, "but received 19 and 6 × 8");
  refused("a guidance scale for a model without one", "sd1", scaled, "Expected no guidance");
  refused("a missing guidance scale", "guidance-embedding", none, "Expected guidance");
  refused("missing classes", "class-table", none, "Expected classes");
  refused("a class outside the table", "class-table", wrong, "classes between 0 and 49 but received 50");
  refused("a fraction of a class", "class-table", fraction, "classes between 0 and 49 but received 0.5");
});

}  // namespace
}  // namespace nd::test
