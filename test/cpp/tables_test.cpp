// A whole UNet of the fixtures on every table of kernels that this CPU has, in every precision, against the
// reference in float32: what each instruction set computes fits together, not only kernel by kernel.
#include "fixture_models.h"
#include "harness.h"
#include "tables.h"
#include "unet/unet.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

std::vector<float> predict(const Kernels& table, Precision precision) {
  const auto model = load_model<Unet>("sd1/unet/diffusion_pytorch_model.safetensors", unet_config(), nullptr,
                                      precision, &table);
  const std::vector<float> latents = noise("latents", 4 * 16 * 24), context = noise("context", 9 * 20);
  const float timestep = 481.0f;
  std::vector<float> out(latents.size());
  model->predict({latents.data(), 1, 16, 24, {&timestep, context.data(), 9}}, out.data(), nullptr);
  return out;
}

struct Bound {
  const char* name;
  Precision precision;
  double most;  // relative L2 error
};
// So few channels round off more than a real model's; AVX2 without VNNI has seven bits for activations.
constexpr Bound kBounds[] = {
    {"f32", Precision::f32, 1e-5}, {"bf16", Precision::bf16, 0.04}, {"int8", Precision::i8, 0.14}};

const Register suite([] {
  std::vector<float> truth;
  for (const Kernels* table : all_tables())
    for (const Bound& bound : kBounds)
      test(std::string("tables/") + table->name + " UNet in " + bound.name, [&] {
        if (truth.empty()) truth = predict(reference(), Precision::f32);
        const double error = relative_error(predict(*table, bound.precision), truth);
        return error <= bound.most ? std::string() : "relative error " + text(error);
      });
});

}  // namespace
}  // namespace nd::test
