// Image encoders compared with transformers (tools/fixtures/vision.py), on the CPU and on the reference
// backend.
#include <string>
#include <vector>

#include "fixture_models.h"
#include "golden.h"
#include "harness.h"
#include "reference_backend.h"
#include "vision/image_encoder.h"

namespace nd::test {
namespace {

constexpr double kTolerance = 1e-4;

std::string fixture(const std::string& file) {
  return std::string(ND_FIXTURES) + "/vision/" + file;
}

std::unique_ptr<ImageEncoder> load(Backend& backend) {
  WeightTable table;
  add_safetensors(table, fixture("open-clip/model.safetensors"));
  Loader loader(table, backend, {Precision::f32});
  return std::make_unique<ImageEncoder>(image_encoder_config(), loader);
}

std::vector<float> golden_values(const std::string& name) {
  WeightTable table;
  add_safetensors(table, fixture("golden.safetensors"));
  const StoredTensor& tensor = table.find(name);
  int64_t size = 1;
  for (const int64_t length : tensor.shape) size *= length;
  std::vector<float> values(static_cast<size_t>(size));
  tensor.read(scalar_decoders, 0, size, values.data());
  return values;
}

std::string embeddings(Backend& backend) {
  const std::unique_ptr<ImageEncoder> model = load(backend);
  // Two images at once, and one of them alone.
  const std::vector<float> wide = golden_values("open-clip/wide/pixels"),
                           tall = golden_values("open-clip/tall/pixels");
  std::vector<float> both = wide, expected = golden_values("open-clip/wide/embedding");
  both.insert(both.end(), tall.begin(), tall.end());
  const std::vector<float> second = golden_values("open-clip/tall/embedding");
  expected.insert(expected.end(), second.begin(), second.end());
  std::vector<float> found(expected.size());
  model->encode(both.data(), 2, 0, nullptr, found.data(), nullptr);
  std::string why = compare(found, expected, kTolerance);
  if (!why.empty()) return why;
  found.resize(second.size());
  model->trim();
  model->encode(tall.data(), 1, 0, nullptr, found.data(), nullptr);
  return compare(found, second, kTolerance);
}

std::string hidden_states(Backend& backend) {
  const std::unique_ptr<ImageEncoder> model = load(backend);
  const std::vector<float> pixels = golden_values("open-clip/square/pixels"),
                           expected = golden_values("open-clip/square/hidden"),
                           embedding = golden_values("open-clip/square/embedding");
  std::vector<float> found(expected.size()), more(embedding.size());
  // Both outputs of one call.
  model->encode(pixels.data(), 1, 1, found.data(), more.data(), nullptr);
  const std::string why = compare(found, expected, kTolerance);
  return why.empty() ? compare(more, embedding, kTolerance) : why;
}

const Register suite([] {
  test("vision/ cpu embeddings", [] { return embeddings(backend_of()); });
  test("vision/ cpu hidden states", [] { return hidden_states(backend_of()); });
  test("vision/ reference embeddings", [] {
    ReferenceBackend reference;
    return embeddings(reference);
  });
  test("vision/ reference hidden states", [] {
    ReferenceBackend reference;
    return hidden_states(reference);
  });
  test("vision/ loading and encoding can be cancelled", [] {
    const std::unique_ptr<ImageEncoder> model = load(backend_of());
    const std::vector<float> pixels = golden_values("open-clip/square/pixels");
    std::vector<float> first(20), again(20);
    model->encode(pixels.data(), 1, 0, nullptr, first.data(), nullptr);
    return cancel_everywhere(
        3,
        [&](const CancelToken* token) { model->encode(pixels.data(), 1, 0, nullptr, again.data(), token); },
        [&] {
          model->encode(pixels.data(), 1, 0, nullptr, again.data(), nullptr);
          return std::string(again == first ? "" : "differs after a cancelled call");
        });
  });
  test("vision/ a config that cannot be is refused", [] {
    ImageEncoderConfig config = image_encoder_config();
    config.heads = 5;
    try {
      required_tensors<ImageEncoder>(config);
      return "no error";
    } catch (const Error& error) {
      return std::string(error.what()).find("heads") != std::string::npos ? "" : "another error";
    }
  });
});

}  // namespace
}  // namespace nd::test
