// The golden tensors of test/fixtures/models: what diffusers and transformers computed with each model there.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/text_encoder.h"
#include "unet/unet.h"
#include "vae/vae.h"

namespace nd::test {

struct GoldenTensor {
  std::vector<int64_t> shape;
  std::vector<float> values;  // integers too
  std::vector<int32_t> integers() const { return {values.begin(), values.end()}; }
};

bool has_golden(const std::string& name);
/// The tensor `name` of golden.safetensors. Error model_format where it is missing.
GoldenTensor golden(const std::string& name);

/// The UNets of the fixtures by their folder's name, each with the numbers of its cases.
struct GoldenUnet {
  std::string name;
  UnetConfig config;
  int cases;
};
std::vector<GoldenUnet> golden_unets();

struct GoldenVae {
  std::string name;
  VaeConfig config;
  std::vector<std::string> cases;
};
std::vector<GoldenVae> golden_vaes();

struct GoldenText {
  std::string name;
  TextEncoderConfig config;
  std::vector<std::pair<std::string, int64_t>> cases;  // with the layers to skip
};
std::vector<GoldenText> golden_texts();

/// The file of a component's weights, below test/fixtures/models.
std::string weights_of(const std::string& model, const std::string& component);

/// '' where `found` is within `tolerance` of the largest expected value everywhere, else where it is not.
std::string compare(const std::vector<float>& found, const std::vector<float>& expected, double tolerance);

/// Every golden case on a backend; tests are named `prefix` + the case's name.
void golden_tests(const std::string& prefix, Backend& backend, double tolerance);

}  // namespace nd::test
