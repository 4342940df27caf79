// Winograd layers of every table and precision against direct convolution in double, and which layers use
// Winograd.
#include <algorithm>
#include <string>
#include <vector>

#include "fixture_models.h"
#include "harness.h"
#include "nn/workspace.h"
#include "cpu/layers/winograd.h"
#include "tables.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

struct Arithmetic {
  const char* name;
  Compute compute;
  double max_error;  // relative L2 error
};
constexpr Arithmetic kArithmetics[] = {{"f32", Compute::f32, 1e-6},
                                       {"bf16", Compute::bf16, 0.008},
                                       {"i8", Compute::i8, 0.02},
                                       {"i16", Compute::i16, 0.001}};

bool has(const Kernels& table, Compute compute) {
  if (compute == Compute::f32) return table.winograd_input != nullptr;
  const ReducedGemm* reduced = compute == Compute::bf16 ? table.bf16
                               : compute == Compute::i8 ? table.i8
                                                        : table.i16;
  return table.winograd_input && reduced && reduced->winograd_input;
}

/// Two images of 5×7 pixels, so that tiles reach beyond both edges, and a partial last panel.
std::string convolves(const Kernels& table, const Arithmetic& arithmetic) {
  constexpr int64_t n = 2, h = 5, w = 7, in = 72, out = 80;
  const std::vector<float> kernel = noise("winograd kernel", out * 9 * in),
                           x = noise("winograd x", n * h * w * in);
  const std::vector<float> bias = noise("winograd bias", out);
  const WeightTable none;
  Loader loader(none, backend_of(&table));
  const Winograd layer(Device{table, ThreadPool::shared()}, loader, arithmetic.compute, in, out,
                       [&](int64_t o, float* to) { std::copy_n(kernel.data() + o * 9 * in, 9 * in, to); });
  std::vector<float> found(static_cast<size_t>(n * h * w * out));
  Workspace workspace(backend_of(&table));
  workspace.run(nullptr, [&](ForwardContext& base) {
    Context& ctx = Context::of(base);
    const Tensor input(ctx, n, h, w, in);
    if (!ctx.measuring()) std::copy(x.begin(), x.end(), data(input));
    Tensor result;
    layer.forward(ctx, input, Tensor(), bias.data(), Epilogue(), result);
    if (!ctx.measuring()) std::copy_n(data(result), result.size(), found.begin());
  });
  std::vector<double> expected;
  for (int64_t i = 0; i < n * h * w * out; ++i) {
    const int64_t o = i % out, column = i / out % w, row = i / out / w % h, image = i / out / w / h;
    double truth = bias[static_cast<size_t>(o)];
    for (int64_t tap = 0; tap < 9; ++tap) {
      const int64_t y = row + tap / 3 - 1, left = column + tap % 3 - 1;
      if (y < 0 || y >= h || left < 0 || left >= w) continue;
      for (int64_t c = 0; c < in; ++c)
        truth += static_cast<double>(kernel[static_cast<size_t>((o * 9 + tap) * in + c)]) *
                 x[static_cast<size_t>(((image * h + y) * w + left) * in + c)];
    }
    expected.push_back(truth);
  }
  const double error = relative_error(found, expected);
  return error <= arithmetic.max_error ? std::string() : "relative error " + text(error);
}

/// The precision in which a q8_0 convolution uses Winograd; f32 means that it does not.
Compute chosen(const Kernels& table, int64_t in, int64_t out, Role role, bool streamed = false) {
  PrecisionPolicy policy;
  policy.device = backend_of(&table).capabilities();
  const auto choice = policy.convolution(role, TensorType::q8_0, in, out, true, streamed);
  return choice.winograd ? choice.compute : Compute::f32;
}

std::string chooses(const Kernels& table) {
  constexpr Role middle = Role::middle_convolution, other = Role::hidden;
  if (chosen(table, 1280, 1280, middle) != Compute::i8) return "a large layer does not use int8";
  if (chosen(table, 640, 640, middle) != Compute::f32) return "a middle-sized layer uses Winograd";
  if (chosen(table, 320, 320, other) != Compute::bf16) return "a small layer does not use bfloat16";
  if (chosen(table, 1280, 1280, other) != Compute::f32)
    return "a large layer outside the middle uses Winograd";
  if (chosen(table, 1280, 1280, middle, true) != Compute::f32) return "a streamed layer uses Winograd";
  return "";
}

/// int16 takes the place of bfloat16, and of nothing else, where a model asks for it.
std::string prefers_i16(const Kernels& table) {
  PrecisionPolicy policy;
  policy.device = backend_of(&table).capabilities();
  policy.i8_allowed = false;
  const auto compute = [&](TensorType type) { return policy.product(Role::hidden, type); };
  const Compute before = compute(TensorType::f16);
  policy.prefers_i16 = true;
  for (const TensorType type : {TensorType::f16, TensorType::bf16, TensorType::q8_0}) {
    if (compute(type) != (table.i16 ? Compute::i16 : before)) return "16-bit or quantized weights";
    const auto choice = policy.convolution(Role::hidden, type, 256, 256, true, false);
    if (table.i16 && !(choice.compute == Compute::i16 && choice.winograd)) return "a convolution";
  }
  if (compute(TensorType::f32) != Compute::f32) return "float32 weights";
  policy.requested = Precision::bf16;
  if (table.i16 && compute(TensorType::f32) != Compute::i16) return "bfloat16 on request";
  policy.requested = Precision::f32;
  return compute(TensorType::f16) == Compute::f32 ? "" : "float32 on request";
}

const Register suite([] {
  for (const Kernels* table : all_tables()) {
    for (const Arithmetic& arithmetic : kArithmetics)
      if (has(*table, arithmetic.compute))
        test("winograd/layer " + std::string(table->name) + " " + arithmetic.name,
             [&] { return convolves(*table, arithmetic); });
    test("precision/int16 for bfloat16 " + std::string(table->name), [&] { return prefers_i16(*table); });
    if (has(*table, Compute::i8) && has(*table, Compute::bf16))
      test("winograd/choice " + std::string(table->name), [&] { return chooses(*table); });
  }
});

}  // namespace
}  // namespace nd::test
