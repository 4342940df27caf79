// Models of any configuration with random weights.
#pragma once
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "fixture_models.h"
#include "golden.h"
#include "harness.h"

namespace nd::test {

/// Every tensor has numbers of its own, which depend on its name.
template <class Model, class Config>
std::unique_ptr<Model> load_random(Backend& backend, const Config& config) {
  const std::string path = temporary_path("random-model").u8string();
  std::ofstream file(path, std::ios::binary);
  struct Place {
    RequiredTensor tensor;
    uint64_t offset = 0, bytes = 0;
  };
  std::vector<Place> places;
  uint64_t end = 0;
  for (const RequiredTensor& tensor : required_tensors<Model>(config)) {
    int64_t count = 1;
    for (const int64_t length : tensor.shape) count *= length;
    const std::vector<float> values = noise(tensor.name, count);
    const uint64_t bytes = values.size() * sizeof(float);
    file.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(bytes));
    places.push_back({tensor, end, bytes});
    end += bytes;
  }
  file.close();
  std::unique_ptr<Model> model;
  {
    WeightTable table;
    const int index = table.add_file(path);
    for (const Place& place : places)
      table.add(place.tensor.name, TensorType::f32, place.tensor.shape, false, index, place.offset,
                place.bytes);
    Loader loader(table, backend, {Precision::f32});
    model = std::make_unique<Model>(config, loader);
  }
  std::remove(path.c_str());
  return model;
}

}  // namespace nd::test
