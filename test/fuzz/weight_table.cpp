#include "weights/weight_table.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>

#include "core/error.h"
#include "input.h"
#include "targets.h"
#include "weights/formats/traits.h"

namespace nd::fuzz {
namespace {

constexpr int64_t kFileBytes = 10000;

/// A file of kFileBytes bytes that goes with the process.
class NumberedFile {
 public:
  NumberedFile()
      : path_((std::filesystem::temp_directory_path() /
               ("node-diffusion-fuzz-" + std::to_string(std::random_device()())))
                  .u8string()) {
    std::string bytes(kFileBytes, '\0');
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i * 37 + i / 251);
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  // A function of std::atexit() that is registered in a static's initializer runs after the static's
  // destructor.
  ~NumberedFile() { std::remove(path_.c_str()); }
  NumberedFile(const NumberedFile&) = delete;
  NumberedFile& operator=(const NumberedFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

const std::string& file() {
  static const NumberedFile made;
  return made.path();
}

}  // namespace

void weight_table(const uint8_t* data, size_t size) {
  Input input(data, size);
  WeightTable table;
  const int index = table.add_file(file());
  int types = 0;
  const TypeTraits* all = all_traits(&types);
  for (int i = 0; i < 4 && !input.empty(); ++i) {
    const TypeTraits& type = all[input.below(types)];
    std::vector<int64_t> shape;
    for (int64_t rank = input.below(6); rank > 0; --rank) shape.push_back(input.size(int64_t{1} << 31));
    const bool channels_last = input.below(2) == 1;
    // The binding refuses numbers beyond 2⁵³ and shapes beyond 2⁴⁸ elements.
    constexpr uint64_t kMost = uint64_t{1} << 53;
    double elements = 1;
    for (const int64_t side : shape) elements *= std::fabs(static_cast<double>(side));
    if (elements > 0x1p48) continue;
    bool positive = true;
    for (const int64_t side : shape) positive = positive && side > 0;
    if (!positive) continue;
    const uint64_t offset = static_cast<uint64_t>(input.size(2 * kFileBytes)) % kMost;
    int64_t count = 1;
    for (const int64_t side : shape) count *= side;
    // Half of the entries have the bytes that fit.
    const int64_t fitting = stored_bytes(type.type, count);
    const uint64_t bytes = input.below(2) && fitting > 0
                               ? static_cast<uint64_t>(fitting)
                               : static_cast<uint64_t>(input.size(kFileBytes)) % kMost;
    const std::string name = std::to_string(input.below(3));
    try {
      table.add(name, type.type, shape, channels_last, index, offset, bytes);
    } catch (const Error& error) {
      require(error.code() == ErrorCode::model_format);
      continue;
    }
    require(offset + bytes <= static_cast<uint64_t>(kFileBytes));
    require(fitting == static_cast<int64_t>(bytes));
    std::vector<float> out(static_cast<size_t>(count));
    table.find(name).read(scalar_decoders, 0, count, out.data());
  }
}

}  // namespace nd::fuzz
