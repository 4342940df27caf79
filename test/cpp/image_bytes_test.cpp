// Decoded images as bytes, against the rule written out for one number.
#include <cmath>
#include <limits>
#include <vector>

#include "fixture_models.h"
#include "harness.h"
#include "vae/image_bytes.h"

namespace nd::test {
namespace {

int level_of(float x) {
  if (std::isnan(x)) return 0;
  const double level = (static_cast<double>(x) / 2 + 0.5) * 255;
  return static_cast<int>(std::nearbyint(std::fmin(std::fmax(level, 0), 255)));
}

std::string converts(int64_t channels, const std::vector<float>& planes, bool finite) {
  const int64_t pixels = static_cast<int64_t>(planes.size()) / channels;
  std::vector<uint8_t> bytes(static_cast<size_t>(3 * pixels), 77);
  if (image_bytes(planes.data(), channels, pixels, bytes.data()) != finite)
    return finite ? "finds what is not finite" : "finds nothing that is not finite";
  for (int64_t i = 0; i < pixels; ++i)
    for (int64_t c = 0; c < 3; ++c) {
      const float x = planes[static_cast<size_t>((channels == 3 ? c * pixels : 0) + i)];
      const int got = bytes[static_cast<size_t>(3 * i + c)];
      if (got != level_of(x)) return std::to_string(got) + " for " + std::to_string(x);
    }
  return "";
}

const Register suite([] {
  for (const int64_t pixels : {1, 7, 512, 1300})
    for (const int64_t channels : {1, 3}) {
      const std::string name = std::to_string(channels) + "x" + std::to_string(pixels);
      test("image bytes/ " + name, [&] {
        std::vector<float> planes = noise(name, channels * pixels);
        for (float& x : planes) x *= 1.3f;
        return converts(channels, planes, true);
      });
    }
  test("image bytes/ between two levels, and the floats beside", [] {
    std::vector<float> planes;
    for (int twice = 0; twice <= 510; ++twice) {
      const float x = static_cast<float>(twice / 255.0 - 1);
      for (const float to : {-2.0f, 2.0f}) planes.push_back(std::nextafter(x, to));
      planes.push_back(x);
    }
    return converts(1, planes, true);
  });
  test("image bytes/ beyond the range", [] {
    const float largest = std::numeric_limits<float>::max(), least = std::numeric_limits<float>::denorm_min();
    return converts(3, {1, -1, 1.01f, -1.01f, 3e9f, -3e9f, largest, -largest, 0.0f, -0.0f, least, -least},
                    true);
  });
  const float infinity = std::numeric_limits<float>::infinity(),
              nan = std::numeric_limits<float>::quiet_NaN();
  for (const float x : {infinity, -infinity, nan, -nan})
    for (const size_t at : {size_t{0}, size_t{1700}})
      test("image bytes/ " + std::to_string(x) + " at " + std::to_string(at), [&] {
        std::vector<float> planes(2100, 0.25f);
        planes[at] = x;
        return converts(3, planes, false);
      });
});

}  // namespace
}  // namespace nd::test
