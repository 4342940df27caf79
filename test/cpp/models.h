// Loading models of the fixtures from C++.
#pragma once
#include <cstdlib>
#include <fstream>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/weights.h"
#include "harness.h"

namespace nd::test {

constexpr size_t kAnyMemory = std::numeric_limits<size_t>::max();

template <class Check>
void test(const std::string& name, Check check) {
  if (!wanted(name)) return;
  try {
    report(name, check());
  } catch (const std::exception& error) {
    report(name, std::string("threw ") + error.what());
  }
}

/// The numbers between the brackets that follow `key`.
inline std::vector<int64_t> numbers_after(const std::string& text, const char* key, size_t at) {
  std::vector<int64_t> result;
  const char* p = text.c_str() + text.find('[', text.find(key, at)) + 1;
  while (*p != ']') {
    char* end;
    result.push_back(std::strtoll(p, &end, 10));
    p = *end == ',' ? end + 1 : end;
  }
  return result;
}

/// The table of a sound safetensors file as Python writes it; TypeScript has the parser for all others.
inline void add_safetensors(WeightTable& table, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), 8);
  std::string header(static_cast<size_t>(length), ' ');
  file.read(header.data(), static_cast<std::streamsize>(length));
  if (!file) throw Error(ErrorCode::io, path + " cannot be read");
  const int index = table.add_file(path);
  for (size_t at = header.find("\":{\"dtype\":\""); at != std::string::npos;
       at = header.find("\":{\"dtype\":\"", at + 1)) {
    const size_t begin = header.rfind('"', at - 1) + 1;
    const char kind = header[at + 12];
    if (kind != 'F' && kind != 'B') continue;  // position_ids
    const TensorType type = kind == 'B'              ? TensorType::bf16
                            : header[at + 13] == '1' ? TensorType::f16
                                                     : TensorType::f32;
    const std::vector<int64_t> place = numbers_after(header, "data_offsets", at);
    table.add(header.substr(begin, at - begin), type, numbers_after(header, "shape", at), false, index,
              8 + length + static_cast<uint64_t>(place[0]), static_cast<uint64_t>(place[1] - place[0]));
  }
}

inline std::vector<float> noise(const std::string& seed, int64_t count) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = random.uniform();
  return values;
}

/// The component in `file` (below test/fixtures/models), for the best kernels that this CPU has.
template <class Model, class Config>
std::unique_ptr<Model> load_model(const char* file, const Config& config, const CancelToken* cancel = nullptr,
                                  Precision precision = Precision::automatic) {
  WeightTable table;
  add_safetensors(table, std::string(ND_FIXTURES) + "/models/" + file);
  int count = 0;
  Loader loader{table, *available_kernels(&count)[0], ThreadPool::shared(), cancel, precision};
  return std::make_unique<Model>(config, loader);
}

}  // namespace nd::test
