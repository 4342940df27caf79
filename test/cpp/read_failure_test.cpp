// Every read of a load and of a streamed prediction fails once; reads fall short or are interrupted.
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "failing_reads.h"
#include "fixture_models.h"
#include "golden.h"
#include "harness.h"

#ifdef ND_TEST_FAILING_READS
namespace nd::test {
namespace {

std::unique_ptr<Unet> load(Residency residency) {
  const GoldenUnet of = golden_unets()[6];  // the one with the fewest layers
  WeightTable table;
  add_component(table, std::string(ND_FIXTURES) + "/models/" + weights_of(of.name, "unet"));
  Loader loader(table, backend_of(), {Precision::f32, residency});
  return std::make_unique<Unet>(of.config, loader);
}

std::vector<float> predict(Unet& unet) {
  const std::vector<float> latents = noise("latents", 2 * 4 * 6 * 10), context = noise("context", 2 * 9 * 20);
  const float timesteps[] = {981.0f, 17.5f};
  std::vector<float> out(latents.size());
  unet.trim();
  unet.predict({latents.data(), 2, 6, 10, {timesteps, context.data(), 9}}, out.data(), nullptr);
  return out;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

/// Fails each read of `body` in turn.
template <class Body>
std::string at_every_read(int64_t step, int error, const Body& body) {
  for (int64_t call = 1;; call += step) {
    bool threw = false;
    std::string why;
    count_tries(1);
    failing_reads::from(call, error);
    try {
      body();
    } catch (const Error& failure) {
      threw = true;
      if (failure.code() != ErrorCode::io) why = failure.what();
    } catch (...) {
      threw = true;
      why = "another exception";
    }
    const bool failed = failing_reads::stop();
    if (why.empty() && threw != failed) why = threw ? "an error without a failed read" : "no error";
    if (!why.empty()) return why + " with read " + std::to_string(call) + " failing";
    if (!failed) return call > 3 ? "" : "only " + std::to_string(call) + " reads";
  }
}

const Register suite([] {
  for (const int error : {EIO, ESTALE}) {
    const std::string name = std::string(": ") + std::strerror(error);  // NOLINT(concurrency-mt-unsafe)
    test("reads/ every read of loading a UNet can fail" + name,
         [=] { return at_every_read(small() ? 17 : 1, error, [] { load(Residency::all); }); });
    test("reads/ every read of a streamed prediction can fail" + name, [=] {
      const std::unique_ptr<Unet> unet = load(Residency::none);
      const std::vector<float> expected = predict(*unet);
      std::string why = at_every_read(small() ? 17 : 1, error, [&] { predict(*unet); });
      if (!why.empty()) return why;
      return std::string(same(predict(*unet), expected) ? "" : "differs afterwards");
    });
  }
  test("reads/ short and interrupted reads give the same weights", [] {
    const std::vector<float> expected = predict(*load(Residency::all));
    for (const int64_t bytes : {1, 7, 4096, 100000}) {
      if (bytes == 1 && small()) continue;
      count_tries(2);
      failing_reads::shorten(bytes);
      const std::vector<float> whole = predict(*load(Residency::all));
      const std::vector<float> streamed = predict(*load(Residency::none));
      failing_reads::stop();
      if (!same(whole, expected) || !same(streamed, expected))
        return "differs with reads of " + std::to_string(bytes) + " bytes";
    }
    return std::string();
  });
});

}  // namespace
}  // namespace nd::test
#endif
