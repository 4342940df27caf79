#include "support.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "driver.h"
#include "emulator.h"

namespace nd::cuda_test {
namespace {

std::vector<char> read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (bytes.empty())
    throw Error(ErrorCode::io, std::string(path) + " cannot be read. Configure with -DND_CUDA=ON.");
  return bytes;
}

}  // namespace

bool on_hardware() {
  return device() == "cuda";
}

cuda::CudaBackend& backend() {
  static const std::unique_ptr<cuda::CudaBackend> made =
      std::make_unique<cuda::CudaBackend>(on_hardware() ? cuda::system_driver() : emu::driver(), 0, image());
  return *made;
}

std::vector<char> image() {
  return on_hardware() ? read_file(ND_CUDA_IMAGE) : std::vector<char>();
}

std::vector<char> test_image() {
  return on_hardware() ? read_file(ND_CUDA_TEST_IMAGE) : std::vector<char>();
}

std::vector<uint32_t> orders() {
  if (on_hardware()) return {0};
  if (small()) return {2};
  return emu::checking ? std::vector<uint32_t>{0, 2} : std::vector<uint32_t>{0, 1, 2, 3};
}

void set_order(uint32_t seed) {
  emu::driver_options.seed = seed;
}

std::string faults() {
  const uint64_t count = emu::statistics.faults;
  emu::statistics.faults = 0;
  return count ? std::to_string(count) + " faults" : "";
}

std::vector<float> random_halves(const std::string& seed, int64_t count, float scale) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = rounded(random.uniform() * scale);
  return values;
}

Array::Array(int64_t bytes) : buffer_(backend().device(), static_cast<size_t>(bytes)) {}

Array Array::halves(const std::vector<float>& values) {
  std::vector<uint16_t> narrow(values.size());
  for (size_t i = 0; i < values.size(); ++i) narrow[i] = to_half(values[i]);
  Array array(static_cast<int64_t>(narrow.size() * 2));
  array.buffer_.fill(narrow.data(), narrow.size() * 2);
  return array;
}

Array Array::floats(const std::vector<float>& values) {
  Array array(static_cast<int64_t>(values.size() * sizeof(float)));
  array.buffer_.fill(values.data(), values.size() * sizeof(float));
  return array;
}

std::vector<float> Array::read_halves(int64_t count) const {
  const std::vector<uint16_t> narrow = read<uint16_t>(count);
  std::vector<float> values(narrow.size());
  for (size_t i = 0; i < values.size(); ++i) values[i] = half_to_float(narrow[i]);
  return values;
}

void Array::download(void* to, size_t bytes) const {
  cuda::Device& device = backend().device();
  const cuda::Device::Current current(device);
  device.download(to, buffer_.address(), bytes, nullptr);
}

double worst_error(const std::vector<float>& got, const std::vector<float>& truth) {
  if (got.size() != truth.size()) return std::numeric_limits<double>::infinity();
  double largest = 0, worst = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const double error = std::fabs(static_cast<double>(got[i]) - truth[i]);
    largest = std::max(largest, std::fabs(static_cast<double>(truth[i])));
    if (!(error <= std::numeric_limits<float>::max())) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, error);
  }
  return largest > 0 ? worst / largest : worst;
}

std::string within(const std::vector<float>& got, const std::vector<float>& truth, double most) {
  const double error = worst_error(got, truth);
  return error <= most ? "" : "off by " + text(error) + " of the largest value";
}

}  // namespace nd::cuda_test
