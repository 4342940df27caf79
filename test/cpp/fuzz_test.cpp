// The targets of test/fuzz with random bytes, where there is no libFuzzer: some of them mutate an earlier
// input.
#include <algorithm>
#include <cstdlib>

#include "../fuzz/targets.h"
#include "fixture_models.h"
#include "harness.h"

namespace nd::test {
namespace {

/// Replaces, inserts and removes bytes, and puts special values in their place.
void mutate(std::vector<uint8_t>& bytes, Random& random) {
  constexpr uint8_t kSpecial[] = {0, 1, 0x7f, 0x80, 0xff};
  for (int64_t changes = 1 + random.below(8); changes > 0; --changes) {
    const auto at = [&] { return bytes.begin() + random.below(static_cast<int64_t>(bytes.size())); };
    switch (bytes.empty() ? 0 : random.below(4)) {
      case 0:
        bytes.push_back(static_cast<uint8_t>(random.next()));
        break;
      case 1:
        *at() = static_cast<uint8_t>(random.next());
        break;
      case 2:
        *at() = kSpecial[random.below(5)];
        break;
      default:
        bytes.erase(at());
    }
  }
}

const Register suite([] {
  for (const fuzz::Target& target : fuzz::kTargets)
    test(std::string("fuzz/ ") + target.name, [&] {
      const char* more = std::getenv("ND_FUZZ_COUNT");  // NOLINT(concurrency-mt-unsafe): nothing sets it
      const int64_t count = more ? std::strtoll(more, nullptr, 10) : small() ? 300 : 3000;
      Random random(target.name);
      std::vector<uint8_t> bytes;
      for (int64_t i = 0; i < count; ++i) {
        if (i % 16 == 0) {
          bytes.resize(static_cast<size_t>(random.below(600)));
          for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next());
        } else {
          mutate(bytes, random);
        }
        target.run(bytes.data(), bytes.size());
      }
      count_tries(count);
      return std::string();
    });
});

}  // namespace
}  // namespace nd::test
