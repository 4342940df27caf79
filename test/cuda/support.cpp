#include "support.h"

#include <algorithm>
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

bool checks_kernels_alone() {
  return emu::checking || small();
}

cuda::CudaBackend& backend() {
  static const std::unique_ptr<cuda::CudaBackend> made = another_backend();
  return *made;
}

std::unique_ptr<cuda::CudaBackend> another_backend() {
  return std::make_unique<cuda::CudaBackend>(on_hardware() ? cuda::system_driver() : emu::driver(), 0,
                                             image());
}

std::unique_ptr<cuda::CudaBackend> backend_with_spare_blocks(size_t bytes) {
  auto backend = another_backend();
  backend->device().keep_spare_blocks(bytes);
  return backend;
}

std::vector<char> image() {
  return on_hardware() ? read_file(ND_CUDA_IMAGE) : std::vector<char>();
}

std::vector<char> test_image() {
  return on_hardware() ? read_file(ND_CUDA_TEST_IMAGE) : std::vector<char>();
}

std::vector<uint32_t> model_orders() {
  return emu::checking ? std::vector<uint32_t>{2} : orders();
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

uint64_t bank_conflicts() {
  const uint64_t count = emu::statistics.ldmatrix_conflicts;
  emu::statistics.ldmatrix_conflicts = 0;
  return count;
}

std::vector<float> random_halves(const std::string& seed, int64_t count, float scale) {
  Random random(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = rounded(random.uniform() * scale);
  return values;
}

std::vector<float> channels_of(const std::vector<float>& x, int64_t c, int64_t first, int64_t count) {
  std::vector<float> part;
  for (auto row = x.begin(); row != x.end(); row += c)
    part.insert(part.end(), row + first, row + first + count);
  return part;
}

// CUDA allocates no block of 0 bytes.
Array::Array(int64_t bytes) : buffer_(backend().device(), static_cast<size_t>(std::max<int64_t>(bytes, 1))) {}

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

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::string check_cancelled(const std::function<std::vector<float>(const CancelToken*)>& predict) {
  const std::vector<float> expected = predict(nullptr);
  CancelToken cancelled;
  cancelled.cancel();
  try {
    predict(&cancelled);
    return "it was not cancelled";
  } catch (const Cancelled&) {
  }
  return same(predict(nullptr), expected) ? "" : "the next one differs";
}

std::string check_moments(const std::vector<float>& y, const Array& moments, const MomentShape& shape) {
  const auto [n, pixels, c, pieces] = shape;
  const std::vector<float> got = moments.read<float>(n * pieces * 3 * c);
  for (int64_t column = 0; column < n * c; ++column) {
    const int64_t image = column / c, channel = column % c;
    const auto at = [&, pixels = pixels, c = c](int64_t pixel) {
      return static_cast<double>(y[static_cast<size_t>((image * pixels + pixel) * c + channel)]);
    };
    double sum = 0, squares = 0, count = 0, mean = 0, m2 = 0;
    for (int64_t pixel = 0; pixel < pixels; ++pixel) sum += at(pixel);
    const double center = sum / static_cast<double>(pixels);
    for (int64_t pixel = 0; pixel < pixels; ++pixel) squares += std::pow(at(pixel) - center, 2);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const float* part = &got[static_cast<size_t>((image * pieces + piece) * 3 * c + channel)];
      if (part[0] == 0) continue;
      const double delta = part[c] - mean, total = count + part[0];
      mean += delta * part[0] / total;
      m2 += part[2 * c] + delta * delta * count * part[0] / total;
      count = total;
    }
    const std::string where = " of channel " + std::to_string(channel) + " of image " + std::to_string(image);
    if (count != static_cast<double>(pixels)) return "the count" + where + " is " + text(count);
    if (!(std::fabs(mean - center) <= 1e-5 * std::max(1.0, std::fabs(center))))
      return "the mean" + where + " is off by " + text(mean - center);
    if (!(std::fabs(m2 - squares) <= 1e-3 * squares + 1e-6)) return "the variance" + where + " is wrong";
  }
  return "";
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
