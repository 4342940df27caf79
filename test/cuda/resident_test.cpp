// Tensors that stay on the device between forwards: their arithmetic against plain loops, and forwards with
// them against forwards with latents on the host.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "driver.h"
#include "fixture_models.h"
#include "nn/resident.h"
#include "support.h"
#include "unet/unet.h"

namespace nd::cuda_test {
namespace {

using Operation = ResidentOperation;
using Tensors = std::vector<std::vector<float>>;  // by number

Operation operation(Operation::Kind kind, int64_t out, std::vector<Operation::Term> terms,
                    Operation::Check check = Operation::Check::nothing) {
  return {kind, check, out, std::move(terms)};
}

/// What lib/ computes in JavaScript.
float computed(const Operation& op, const Tensors& tensors, size_t i) {
  const auto x = [&](size_t t) {
    return static_cast<double>(tensors[static_cast<size_t>(op.terms[t].tensor)][i]);
  };
  const double factor = op.terms[0].factor;
  if (op.kind == Operation::Kind::clamp) {
    if (std::isnan(x(0))) return static_cast<float>(x(0));
    return static_cast<float>(std::min(std::max(x(0), -factor), factor));
  }
  if (op.kind == Operation::Kind::guide) return static_cast<float>(x(0) + factor * (x(1) - x(0)));
  if (op.kind == Operation::Kind::edit)
    return static_cast<float>(x(2) + factor * (x(0) - x(1)) + op.terms[1].factor * (x(1) - x(2)));
  if (op.kind == Operation::Kind::blend) return static_cast<float>((1 - x(2)) * x(0) + x(2) * x(1));
  double sum = op.terms.size() > 3 ? 0.0 : factor * x(0);
  for (size_t t = op.terms.size() > 3 ? 0 : 1; t < op.terms.size(); ++t) sum += op.terms[t].factor * x(t);
  return static_cast<float>(sum);
}

std::vector<float> awkward(const std::string& seed, int64_t count) {
  std::vector<float> values = noise(seed, count);
  const float infinity = std::numeric_limits<float>::infinity();
  const float special[] = {0.0f,     -0.0f,     1e-42f,
                           -1e-42f,  3e38f,     -3e38f,
                           infinity, -infinity, std::numeric_limits<float>::quiet_NaN()};
  for (size_t i = 0; i < values.size(); i += 3) values[i] = special[i / 3 % 9];
  return values;
}

bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::isnan(x) ? std::isnan(y) : x == y && std::signbit(x) == std::signbit(y);
  });
}

/// Sums of one to eight terms, guidance, limits and masks, one after the other, each of results of earlier
/// ones.
void arithmetic() {
  for (const int64_t count : {int64_t{1}, int64_t{255}, int64_t{1030}})
    in_all_orders("cuda/steps of " + std::to_string(count), [count] {
      const std::shared_ptr<ResidentTensors> resident = backend().resident(1, count, 0);
      Tensors tensors(24);
      ResidentProgram program;
      for (int64_t tensor = 3; tensor < 7; ++tensor) {
        auto& values = tensors[static_cast<size_t>(tensor)];
        values = tensor < 5 ? awkward(std::to_string(tensor), count) : noise(std::to_string(tensor), count);
        program.uploads.push_back({tensor, values});
      }
      std::vector<Operation>& list = program.operations;
      for (size_t terms = 1; terms <= ResidentTensors::kMaxTerms; ++terms) {
        Operation sum = operation(Operation::Kind::combine, 6 + static_cast<int64_t>(terms), {});
        for (size_t t = 0; t < terms; ++t)
          sum.terms.push_back(
              {std::sin(static_cast<double>(t + terms)) / 3, 3 + static_cast<int64_t>(t % 4)});
        list.push_back(sum);
      }
      list.push_back(operation(Operation::Kind::guide, 15, {{7.3, 3}, {1, 4}}));
      list.push_back(operation(Operation::Kind::guide, 16, {{1.1, 5}, {1, 15}}));
      list.push_back(operation(Operation::Kind::clamp, 17, {{1, 16}}));
      list.push_back(operation(Operation::Kind::blend, 18, {{1, 4}, {1, 5}, {1, 17}}));
      list.push_back(operation(Operation::Kind::blend, 19, {{1, 18}, {1, 3}, {1, 6}}));
      list.push_back(operation(Operation::Kind::edit, 20, {{7.3, 4}, {1.6, 3}, {1, 5}}));
      list.push_back(operation(Operation::Kind::edit, 21, {{0.1, 6}, {-2.7, 5}, {1, 20}}));
      list.push_back(operation(Operation::Kind::combine, 5, {{0.1, 5}, {1e30, 17}}));
      std::vector<int64_t> wanted;
      std::vector<float> expected;
      for (const Operation& one : list) {
        std::vector<float> result(static_cast<size_t>(count));
        for (size_t i = 0; i < result.size(); ++i) result[i] = computed(one, tensors, i);
        tensors[static_cast<size_t>(one.out)] = result;
      }
      for (const Operation& one : list) {
        const auto& values = tensors[static_cast<size_t>(one.out)];
        wanted.push_back(one.out);
        expected.insert(expected.end(), values.begin(), values.end());
      }
      std::vector<float> got(expected.size());
      resident->read(std::move(program), wanted, got.data(), nullptr);
      return same_numbers(got, expected) ? "" : std::string("other numbers than on the host");
    });
}

double deviation(const float* x, int64_t count) {
  double mean = 0, sum = 0;
  for (int64_t i = 0; i < count; ++i) mean += static_cast<double>(x[i]) / static_cast<double>(count);
  for (int64_t i = 0; i < count; ++i) sum += std::pow(static_cast<double>(x[i]) - mean, 2);
  return std::sqrt(sum / static_cast<double>(count - 1));
}

void rescale() {
  struct Case {
    int64_t images, count;
    bool constant;  // guided: its deviation is 0, so nothing is rescaled
  };
  for (const auto& [images, count, constant] :
       {Case{1, 1, false}, {1, 300, false}, {2, 1030, false}, {1, 64, true}})
    in_all_orders("cuda/rescale " + std::to_string(images) + "x" + std::to_string(count) +
                      (constant ? " constant" : ""),
                  [images = images, count = count, constant = constant] {
                    const std::shared_ptr<ResidentTensors> resident =
                        backend().resident(images, images * count, 0);
                    const std::vector<float> conditional = noise("c", images * count);
                    std::vector<float> guided = noise("g", images * count);
                    if (constant) guided.assign(guided.size(), 0.5f);
                    std::vector<float> got(guided.size());
                    resident->read({{{3, conditional}, {4, guided}},
                                    {operation(Operation::Kind::rescale, 5, {{0.7, 3}, {1, 4}})},
                                    {}},
                                   {5}, got.data(), nullptr);
                    for (int64_t i = 0; i < images * count; ++i) {
                      const int64_t row = i / count * count;
                      const double ratio =
                          deviation(conditional.data() + row, count) / deviation(guided.data() + row, count);
                      const double factor = std::isfinite(ratio) ? 0.7 * ratio + 1 - 0.7 : 1;
                      const float want = static_cast<float>(guided[static_cast<size_t>(i)] * factor);
                      const float one = got[static_cast<size_t>(i)];
                      if (one != want && std::nextafter(one, want) != want)
                        return "element " + std::to_string(i);
                    }
                    return std::string();
                  });
}

/// The first program with numbers that are not finite is told.
void finite_numbers() {
  in_orders({0}, "cuda/steps that are not finite", [] {
    const std::shared_ptr<ResidentTensors> resident = backend().resident(1, 300, 0);
    std::vector<float> values = noise("x", 300), out(300);
    const auto run = [&](float factor, Operation::Check check) {
      return resident->read(
          {{{3, values}}, {operation(Operation::Kind::combine, 4, {{factor, 3}}, check)}, {}}, {4},
          out.data(), nullptr);
    };
    ResidentChecks checks = run(1, Operation::Check::prediction);
    if (checks.prediction != 0 || checks.latents != 0) return "found what is not there";
    values[299] = std::numeric_limits<float>::infinity();
    checks = run(0, Operation::Check::nothing);
    if (checks.prediction != 0 || checks.latents != 0) return "found what nobody asked for";
    checks = run(0, Operation::Check::latents);
    if (checks.prediction != 0 || checks.latents != 3) return "the product of infinity and 0";
    checks = run(0, Operation::Check::prediction);
    if (checks.prediction != 4 || checks.latents != 3) return "infinity";
    checks = run(0, Operation::Check::prediction);
    return checks.prediction == 4 && checks.latents == 3 ? "" : "the first one counts";
  });
}

/// Steps with and without guidance; graphs of earlier steps, of other latents and of another run are there.
void forwards() {
  in_orders({0}, "cuda/forwards with resident latents", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend()), on_host = load_fixture_unet(backend());
    constexpr int64_t elements = 4 * 4 * 6;
    std::shared_ptr<ResidentTensors> resident;
    for (int step = 0; step < 9; ++step) {
      if (step % 6 == 0) resident = backend().resident(1, elements, 0);  // another run
      const int64_t n = step % 3 == 1 ? 1 : 2;
      const std::vector<float> latents = noise(std::to_string(step), elements),
                               context = noise("context", n * 9 * 20),
                               timesteps(static_cast<size_t>(n), 900.0f - static_cast<float>(step));
      std::vector<float> batch = latents, expected(static_cast<size_t>(n * elements)), got(expected.size());
      if (n == 2) batch.insert(batch.end(), latents.begin(), latents.end());
      const Conditioning conditioning{timesteps.data(), context.data(), 9};
      on_host->predict({batch.data(), n, 4, 6, conditioning}, expected.data(), nullptr);
      const Operation input = operation(Operation::Kind::combine, ResidentTensors::kInput, {{1, 4}});
      resident->stage({{{4, latents}}, {input}, {}});
      unet->predict({nullptr, n, 4, 6, conditioning, resident.get()}, nullptr, nullptr);
      if (n == 1)
        resident->read({}, {1}, got.data(), nullptr);
      else
        resident->read({}, {1, 2}, got.data(), nullptr);
      if (!same(got, expected)) return "step " + std::to_string(step) + " differs";
    }
    return std::string();
  });
}

/// Latents of another size, another batch, and further input channels that were not given are refused.
void refused() {
  in_orders({0}, "cuda/resident tensors of other shapes", [] {
    const std::unique_ptr<Unet> unet = load_fixture_unet(backend());
    const auto refuses = [&](int64_t images, int64_t elements, int64_t n) {
      const std::shared_ptr<ResidentTensors> resident = backend().resident(images, elements, 0);
      const std::vector<float> context = noise("context", n * 9 * 20),
                               timesteps(static_cast<size_t>(n), 900.0f);
      resident->stage({});
      try {
        unet->predict({nullptr, n, 4, 6, {timesteps.data(), context.data(), 9}, resident.get()}, nullptr,
                      nullptr);
      } catch (const Error& error) {
        return error.code() == ErrorCode::invalid_argument;
      }
      return false;
    };
    if (!refuses(1, 4 * 4 * 6 + 1, 1)) return "a size that is no latents'";
    if (!refuses(1, 5 * 4 * 6, 1)) return "more channels than the model has";
    if (!refuses(1, 3 * 4 * 6, 1)) return "a further input channel that is not there";
    if (!refuses(2, 2 * 4 * 4 * 6, 3)) return "a batch that does not repeat the images";
    return refuses(1, 4 * 4 * 6, 4) ? "" : "more predictions than there is room for";
  });
}

/// Nothing is allocated before the first program; all of it is freed, and what does not fit leaves nothing.
void memory() {
  if (on_hardware()) return;
  in_orders({0}, "cuda/memory of resident tensors", [] {
    backend();
    const int64_t before = emu::driver_counts.bytes;
    {
      const std::shared_ptr<ResidentTensors> resident = backend().resident(1, 1000, 0);
      if (emu::driver_counts.bytes != before) return "memory before it is needed";
      resident->stage({{{5, std::vector<float>(1000)}}, {}, {}});
      if (emu::driver_counts.bytes == before) return "no memory";
      CancelToken cancel;
      cancel.cancel();
      std::vector<float> out(1000);
      try {
        resident->read({}, {5}, out.data(), &cancel);
        return "not cancelled";
      } catch (const Cancelled&) {
      }
    }
    return emu::driver_counts.bytes == before ? "" : "memory that is not freed";
  });
}

const Register suite([] {
  arithmetic();
  rescale();
  finite_numbers();
  if (!checks_kernels_alone()) forwards();
  refused();
  memory();
});

}  // namespace
}  // namespace nd::cuda_test
