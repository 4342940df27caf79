// Autoencoders in less and less memory against the whole image at once. The results must be equal up to
// rounding, also where bands meet.
#include <algorithm>
#include <cmath>
#include <limits>

#include "fixture_models.h"
#include "harness.h"
#include "vae/vae.h"

namespace nd::test {
namespace {

// Bounds on the largest error over the root mean square. In float32 sums are taken in another order. In half
// precision each value is rounded to 2⁻¹² several times, and norms can amplify that.
constexpr double kFloat32 = 2e-5, kFloat16 = 1.2e-2;

struct Subject {
  const char* name;
  const char* file;
  VaeConfig config;
};

std::vector<Subject> subjects() {
  VaeConfig kl;
  kl.block_channels = {8, 8, 16, 16};
  kl.norm_groups = 4;
  VaeConfig plain;
  plain.block_channels = {12, 20};
  plain.norm_groups = 4;
  plain.latent_channels = 5;
  plain.layers_per_block = 1;
  plain.mid_attention = plain.quant_conv = plain.post_quant_conv = false;
  return {{"kl", "vae-kl/vae/diffusion_pytorch_model.safetensors", kl},
          {"plain", "vae-plain/vae/diffusion_pytorch_model.safetensors", plain}};
}

/// The largest difference in each row, over the root mean square of `whole`.
std::vector<double> row_errors(const std::vector<float>& found, const std::vector<float>& whole, int64_t c,
                               int64_t h, int64_t w) {
  double squares = 0;
  for (float value : whole) squares += static_cast<double>(value) * value;
  const double scale = std::sqrt(squares / static_cast<double>(whole.size()));
  std::vector<double> errors(static_cast<size_t>(h), 0.0);
  for (int64_t i = 0; i < c * h * w; ++i) {
    const size_t at = static_cast<size_t>(i);
    const double error = std::fabs(static_cast<double>(found[at]) - whole[at]) / scale;
    double& row = errors[static_cast<size_t>(i / w % h)];
    if (!(error <= row)) row = error;
  }
  return errors;
}

/// The mean error of rows where bands meet over that of all rows; 1 where there are too few such rows.
double border_ratio(const std::vector<double>& errors, int64_t rows) {
  double all = 0, border = 0;
  int64_t count = 0;
  const int64_t height = static_cast<int64_t>(errors.size());
  for (int64_t y = 0; y < height; ++y) {
    const double error = errors[static_cast<size_t>(y)];
    all += error;
    if (y < rows / 2 || y >= height - rows / 2 || (y % rows > 0 && y % rows < rows - 1)) continue;
    border += error;
    ++count;
  }
  return count < 8 || all == 0 ? 1
                               : border / static_cast<double>(count) / (all / static_cast<double>(height));
}

/// Calls bytes(limit) and call(limit, out) with less and less memory, down to the least possible.
template <class Bytes, class MakePlan, class Call>
std::string walk(Bytes bytes, MakePlan make_plan, Call call, int64_t c, int64_t h, int64_t w, int* plans) {
  const std::vector<float> empty(static_cast<size_t>(c * h * w), NAN);
  std::vector<float> whole = empty;
  size_t limit = std::numeric_limits<size_t>::max();
  size_t needed = bytes(limit);
  call(limit, whole);
  for (*plans = 0;; ++*plans) {
    limit = needed - 1;
    const size_t next = bytes(limit);
    if (next >= needed) return "";
    needed = next;
    std::vector<float> found = empty;
    call(limit, found);
    const std::vector<double> errors = row_errors(found, whole, c, h, w);
    const Plan plan = make_plan(limit);
    const double tolerance = plan.fp16 ? kFloat16 : kFloat32;
    for (size_t y = 0; y < errors.size(); ++y)
      if (!(errors[y] <= tolerance))
        return std::to_string(needed) + " bytes: row " + std::to_string(y) + " is off by " + text(errors[y]);
    const double seams = border_ratio(errors, plan.rows);
    if (!(seams <= 1.3)) return std::to_string(needed) + " bytes: seams, " + text(seams);
    ThreadPool& pool = ThreadPool::shared();
    const int threads = pool.threads();
    pool.resize(threads == 1 ? 3 : 1);
    std::vector<float> again = empty;
    call(limit, again);
    pool.resize(threads);
    if (std::memcmp(found.data(), again.data(), found.size() * sizeof(float)) != 0)
      return std::to_string(needed) + " bytes: the result depends on the number of threads";
  }
}

bool same(const Plan& a, const Plan& b) {
  return a.first == b.first && a.last == b.last && a.cuts == b.cuts && a.rows == b.rows && a.fp16 == b.fp16;
}

/// Plans of more sizes and limits than are remembered, in two orders, against those of models that were asked
/// nothing before.
std::string remembered(const Subject& subject) {
  const auto fresh = [&] { return load_model<Vae>(subject.file, subject.config, nullptr, Precision::f32); };
  const auto vae = fresh();
  struct Question {
    bool encodes;
    int64_t side;
    size_t limit;
    Plan expected;
  };
  std::vector<Question> questions;
  const auto ask = [](const Vae& of, const Question& one) {
    return one.encodes ? of.encode_plan(one.side, one.side, one.limit)
                       : of.decode_plan(one.side, one.side, one.limit);
  };
  for (const int64_t side : {32, 48, 96})
    for (const size_t limit : {size_t{0}, size_t{1} << 20, kAnyMemory})
      for (const bool encodes : {false, true}) {
        questions.push_back({encodes, side, limit, {}});
        questions.back().expected = ask(*fresh(), questions.back());
      }
  if (same(questions.front().expected, questions.back().expected)) return "all plans are the same";
  for (int round = 0; round < 2; ++round) {
    for (const Question& one : questions)
      for (int times = 0; times < 2; ++times)
        if (!same(ask(*vae, one), one.expected)) return "another plan for " + std::to_string(one.side);
    std::reverse(questions.begin(), questions.end());
  }
  return "";
}

const Register suite([] {
  for (const Subject& subject : subjects()) {
    const std::string name = std::string("bands/") + subject.name;
    const VaeConfig& config = subject.config;
    const int64_t f = config.factor();
    if (!test::small()) test(name + " plans that are remembered", [&] { return remembered(subject); });
    for (const auto& [h, w] : {std::pair<int64_t, int64_t>{300 / f + 1, 9}, {17, 5}, {3, 40}}) {
      if (test::small() && h != 17) continue;
      const std::string size = " " + std::to_string(h) + "x" + std::to_string(w);
      test(name + " decode" + size, [&, h = h, w = w] {
        const auto vae = load_model<Vae>(subject.file, config, nullptr, Precision::f32);
        const std::vector<float> latents = noise("latents", config.latent_channels * h * w);
        int plans = 0;
        std::string why = walk([&](size_t limit) { return vae->decode_bytes(h, w, limit); },
                               [&](size_t limit) { return vae->decode_plan(h, w, limit); },
                               [&](size_t limit, std::vector<float>& out) {
                                 vae->decode(latents.data(), 1, h, w, limit, out.data(), nullptr);
                               },
                               config.out_channels, f * h, f * w, &plans);
        if (why.empty() && h > 100 && plans < 3) return "only " + std::to_string(plans) + " plans";
        return why;
      });
      test(name + " encode" + size, [&, h = h * f + f / 2, w = w * f + 1] {
        const auto vae = load_model<Vae>(subject.file, config, nullptr, Precision::f32);
        const std::vector<float> image = noise("image", config.in_channels * h * w);
        int plans = 0;
        return walk([&](size_t limit) { return vae->encode_bytes(h, w, limit); },
                    [&](size_t limit) { return vae->encode_plan(h, w, limit); },
                    [&](size_t limit, std::vector<float>& out) {
                      vae->encode(image.data(), 1, h, w, limit, out.data(), nullptr);
                    },
                    config.moment_channels(), h / f, w / f, &plans);
      });
    }
  }
});

}  // namespace
}  // namespace nd::test
