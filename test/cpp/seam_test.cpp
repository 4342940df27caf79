// The seam between models and devices: the same model code on two backends, the golden models on each, and
// the list of tensors that a dry run gives.
#include <set>
#include <stdexcept>
#include <thread>

#include "core/error.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"
#include "reference_backend.h"
#include "vae/tiny.h"

namespace nd::test {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest value, as in test/models

/// `call` on a model of each backend gives the same up to rounding.
template <class Model, class Config, class Call>
std::string both(const std::string& file, const Config& config, Call call, double tolerance = kTolerance) {
  ReferenceBackend reference;
  const auto here = load_model<Model>(backend_of(), file, config, nullptr, Precision::f32);
  const auto there = load_model<Model>(reference, file, config, nullptr, Precision::f32);
  return compare(call(*here), call(*there), tolerance);
}

void options_of_calls() {
  const GoldenUnet of = golden_unets()[0];
  const std::string file = weights_of(of.name, "unet");
  const std::vector<float> latents = noise("latents", 2 * 4 * 7 * 9), context = noise("context", 2 * 9 * 20);
  const float timesteps[] = {981.0f, 17.5f};
  const UnetInput input{latents.data(), 2, 7, 9, {timesteps, context.data(), 9}};
  const auto predict = [&](Unet& unet, const UnetOptions& options) {
    std::vector<float> out(latents.size());
    unet.predict(input, out.data(), nullptr, options);
    return out;
  };
  test("seam/ token merging and odd sizes on both backends",
       [&] { return both<Unet>(file, of.config, [&](Unet& unet) { return predict(unet, {0.5}); }); });
  test("seam/ deep features on both backends", [&] {
    return both<Unet>(file, of.config, [&](Unet& unet) {
      DeepFeatures deep;
      predict(unet, {0, &deep, 3, false});
      return predict(unet, {0, &deep, 3, true});
    });
  });
  for (const bool fp16 : {false, true})
    test(std::string("seam/ decoding in bands on both backends") + (fp16 ? ", stored in half precision" : ""),
         [&] {
           const GoldenVae vae = golden_vaes()[0];
           const std::string weights = weights_of(vae.name, "vae");
           const std::vector<float> z = noise("latents", 4 * 40 * 5);
           // The first plan of this kind on the way to less memory, which each backend measures for itself.
           const auto limit_of = [&](const Vae& model) {
             size_t limit = model.decode_bytes(40, 5, kAnyMemory);
             for (Plan plan; !plan.banded() || plan.fp16 != fp16; plan = model.decode_plan(40, 5, limit)) {
               limit -= limit / 50;
               if (limit < 4096) throw std::runtime_error("there is no such plan");
             }
             return limit;
           };
           // A value between two halves can round either way.
           const double tolerance = fp16 ? 5e-3 : kTolerance;
           return both<Vae>(
               weights, vae.config,
               [&](Vae& decoder) {
                 std::vector<float> out(static_cast<size_t>(3 * 320 * 40));
                 decoder.decode(z.data(), 1, 40, 5, limit_of(decoder), out.data(), nullptr);
                 return out;
               },
               tolerance);
         });
  test("seam/ average pooling of odd and even sides on both backends", [&] {
    const std::vector<float> images = noise("images", 2 * 3 * 5 * 8);
    ReferenceBackend reference;
    std::vector<float> here(2 * 3 * 3 * 4), there(here.size());
    const auto pool = [&](Backend& backend, std::vector<float>& out) {
      Workspace workspace(backend);
      workspace.run(nullptr, [&](ForwardContext& ctx) {
        backend.to_planar(ctx, backend.average_pool(ctx, backend.from_planar(ctx, images.data(), 2, 3, 5, 8)),
                          out.data());
      });
    };
    pool(backend_of(), here), pool(reference, there);
    return compare(here, there, kTolerance);
  });
  test("seam/ tiny autoencoder on both backends", [&] {
    TinyVaeConfig config;
    config.width = 8;
    config.encoder_blocks = {1, 2, 1};
    config.decoder_blocks = {2, 1, 1};
    return both<TinyVae>("../tiny-vae/three-levels/diffusion_pytorch_model.safetensors", config,
                         [&](TinyVae& model) {
                           const std::vector<float> z = noise("latents", 4 * 5 * 7);
                           std::vector<float> image(3 * 20 * 28), back(z.size());
                           model.decode(z.data(), 1, 5, 7, kAnyMemory, image.data(), nullptr);
                           model.encode(image.data(), 1, 20, 28, kAnyMemory, back.data(), nullptr);
                           image.insert(image.end(), back.begin(), back.end());
                           return image;
                         });
  });
  test("seam/ memory of another device is released with the model", [&] {
    ReferenceBackend reference;
    {
      const auto unet = load_model<Unet>(reference, file, of.config, nullptr, Precision::f32);
      predict(*unet, {});
      if (reference.hidden().blocks() == 0) return "nothing lies in the device's memory";
      unet->trim();
      if (reference.hidden().blocks() != 0) return "trim() left memory";
      predict(*unet, {});
    }
    return reference.hidden().blocks() == 0 ? "" : "memory is left";
  });
}

/// Names and shapes of a dry run, and of loading with exactly those tensors and no others.
template <class Model, class Config>
std::string listed(const std::string& file, const Config& config) {
  WeightTable table;
  add_component(table, std::string(ND_FIXTURES) + "/models/" + file);
  std::set<std::string> names;
  for (const RequiredTensor& tensor : required_tensors<Model>(config)) {
    if (!names.insert(tensor.name).second) return tensor.name + " is listed twice";
    table.require(tensor.name, tensor.shape);  // throws where the file has another shape
  }
  return names.size() == table.size() ? ""
                                      : "the file has " + std::to_string(table.size()) +
                                            " tensors, listed are " + std::to_string(names.size());
}

void dry_runs() {
  for (const GoldenUnet& of : golden_unets())
    test("seam/ a dry run lists the tensors of " + of.name,
         [&] { return listed<Unet>(weights_of(of.name, "unet"), of.config); });
  for (const GoldenVae& of : golden_vaes())
    test("seam/ a dry run lists the tensors of " + of.name,
         [&] { return listed<Vae>(weights_of(of.name, "vae"), of.config); });
  for (const GoldenText& of : golden_texts())
    test("seam/ a dry run lists the tensors of " + of.name,
         [&] { return listed<TextEncoder>(weights_of(of.name, "text_encoder"), of.config); });
  test("seam/ a dry run refuses a config that cannot be", [] {
    UnetConfig config = golden_unets()[0].config;
    config.norm_groups = 5;
    try {
      required_tensors<Unet>(config);
      return "no error";
    } catch (const Error& error) {
      return error.code() == ErrorCode::invalid_argument ? "" : "another error";
    }
  });
}

const Register suite([] {
  golden_tests("golden/ ", backend_of(), kTolerance);
  static ReferenceBackend reference;
  golden_tests("golden/ reference backend ", reference, kTolerance);
  options_of_calls();
  dry_runs();
});

}  // namespace
}  // namespace nd::test
