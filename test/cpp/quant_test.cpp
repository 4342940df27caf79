// Block formats against the PyPI package gguf (test/fixtures/quant, made by tools/fixtures/quant.py), and the
// encoders that the format does not determine against bounds on their error.
#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>

#include "core/error.h"
#include "harness.h"
#include "tables.h"
#include "cpu/kernels/kernels.h"
#include "weights/convert.h"
#include "weights/formats/half.h"
#include "weights/formats/traits.h"

namespace nd::test {
using namespace nd::cpu;
namespace {

template <class Check>
void test(const std::string& name, Check check) {
  if (wanted(name)) report(name, check());
}

/// A fixture file: a count, then two arrays of bytes.
struct Fixture {
  explicit Fixture(const std::string& name) {
    std::ifstream file(std::string(ND_FIXTURES "/quant/") + name, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes.size() >= 4) std::memcpy(&count, bytes.data(), 4);
  }
  bool holds(size_t more) const { return bytes.size() == 4 + more; }
  const uint8_t* at(size_t offset) const {
    return reinterpret_cast<const uint8_t*>(bytes.data()) + 4 + offset;
  }
  uint32_t count = 0;
  std::vector<char> bytes;
};

std::vector<float> floats(const uint8_t* bytes, size_t count) {
  std::vector<float> out(count);
  std::memcpy(out.data(), bytes, count * sizeof(float));
  return out;
}

std::string differences(const std::vector<float>& found, const std::vector<float>& expected) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (same_bits(found[i], expected[i]) || (std::isnan(found[i]) && std::isnan(expected[i]))) continue;
    return "element " + std::to_string(i) + " is " + text(found[i]) + ", expected " + text(expected[i]);
  }
  return "";
}

/// Bytes of `count` elements.
size_t size_of(const TypeTraits& row, size_t count) {
  return count / static_cast<size_t>(row.block) * static_cast<size_t>(row.block_bytes);
}

constexpr TensorType kQuantized[] = {TensorType::q8_0, TensorType::q5_0, TensorType::q5_1, TensorType::q4_0,
                                     TensorType::q4_1, TensorType::q6_k, TensorType::q5_k, TensorType::q4_k,
                                     TensorType::q3_k, TensorType::q2_k};
// Types that are only read; their fixtures have all codes.
constexpr TensorType kFloat8[] = {TensorType::f8_e4m3, TensorType::f8_e5m2};
constexpr TensorType kExact[] = {TensorType::q8_0, TensorType::bf16, TensorType::f16};
// Types for which gguf takes the scale from the largest value, and this package the one of the smallest
// error.
constexpr TensorType kFitted[] = {TensorType::q5_0, TensorType::q5_1, TensorType::q4_0, TensorType::q4_1};

std::string decodes(const TypeTraits& row, size_t skew) {
  const Fixture fixture("decode-" + std::string(row.name) + ".bin");
  const size_t elements = fixture.count * static_cast<size_t>(row.block), size = size_of(row, elements);
  if (fixture.count == 0 || !fixture.holds(size + elements * 4)) return "the fixture is missing or damaged";
  std::vector<uint8_t> data(size + skew);
  std::memcpy(data.data() + skew, fixture.at(0), size);
  std::vector<float> found(elements);
  row.decode(reference().decoders, data.data() + skew, static_cast<int64_t>(elements), found.data());
  return differences(found, floats(fixture.at(size), elements));
}

std::string encodes(const TypeTraits& row) {
  const Fixture fixture("encode-" + std::string(row.name) + ".bin");
  const size_t size = size_of(row, fixture.count);
  if (fixture.count == 0 || !fixture.holds(fixture.count * 4 + size))
    return "the fixture is missing or damaged";
  const std::vector<float> x = floats(fixture.at(0), fixture.count);
  std::vector<uint8_t> found(size);
  row.encode(x.data(), fixture.count, found.data());
  const uint8_t* expected = fixture.at(size_t{fixture.count} * 4);
  const size_t block = static_cast<size_t>(row.block_bytes);
  for (size_t i = 0; i < size; ++i)
    if (found[i] != expected[i])
      return "byte " + std::to_string(i % block) + " of block " + std::to_string(i / block) + " is " +
             std::to_string(found[i]) + ", expected " + std::to_string(expected[i]);
  return "";
}

std::vector<float> gaussian(const std::string& seed, size_t count, float scale) {
  Random random(seed);
  std::vector<float> x(count);
  for (float& value : x) {
    const double u = (random.next() + 1.0) / 4294967297.0, v = random.next() / 4294967296.0;
    value = scale * static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v));
  }
  return x;
}

/// Blocks have no larger error than gguf's for the same elements.
std::string improves_on_gguf(const TypeTraits& row) {
  const Fixture fixture("encode-" + std::string(row.name) + ".bin");
  const size_t size = size_of(row, fixture.count);
  if (fixture.count == 0 || !fixture.holds(fixture.count * 4 + size))
    return "the fixture is missing or damaged";
  const std::vector<float> x = floats(fixture.at(0), fixture.count);
  std::vector<uint8_t> data(size);
  std::vector<float> ours(x.size()), theirs(x.size());
  const int64_t count = static_cast<int64_t>(x.size());
  row.encode(x.data(), count, data.data());
  row.decode(reference().decoders, data.data(), count, ours.data());
  row.decode(reference().decoders, fixture.at(x.size() * 4), count, theirs.data());
  const size_t block = static_cast<size_t>(row.block);
  size_t better = 0;
  for (size_t first = 0; first < x.size(); first += block) {
    double error = 0.0, bound = 0.0, norm = 0.0, largest = 0.0;
    for (size_t i = first; i < first + block; ++i) {
      error += (ours[i] - x[i]) * (ours[i] - x[i]);
      bound += (theirs[i] - x[i]) * (theirs[i] - x[i]);
      norm += x[i] * x[i];
      largest = std::max(largest, std::fabs(static_cast<double>(x[i])));
    }
    // The best scale and min become the nearest halves. Where these are subnormal, luck decides; min may be
    // a little beyond the largest half.
    if (largest < 1e-2 || largest > 5e4) continue;
    if (!(error <= bound + 1e-6 * norm))
      return "block " + std::to_string(first / block) + " has the error " + text(error) + ", gguf's has " +
             text(bound);
    if (error < 0.95 * bound) ++better;
  }
  // At least most of those with normally distributed values.
  return better >= 12 ? "" : "only " + std::to_string(better) + " blocks are better than gguf's";
}

/// Values that were decoded once are encoded without another loss.
std::string is_idempotent(const TypeTraits& row) {
  const std::vector<float> x = gaussian(row.name, 4096, 0.05f);
  std::vector<uint8_t> data(size_of(row, x.size()));
  std::vector<float> once(x.size()), twice(x.size());
  const int64_t count = static_cast<int64_t>(x.size());
  row.encode(x.data(), count, data.data());
  row.decode(reference().decoders, data.data(), count, once.data());
  row.encode(once.data(), count, data.data());
  row.decode(reference().decoders, data.data(), count, twice.data());
  for (size_t i = 0; i < once.size(); ++i)
    if (twice[i] != once[i]) return text(once[i]) + " becomes " + text(twice[i]);
  return "";
}

/// Relative root mean square error of encoding and decoding.
double loss(const TypeTraits& row, const std::vector<float>& x) {
  std::vector<uint8_t> data(size_of(row, x.size()));
  std::vector<float> y(x.size());
  row.encode(x.data(), static_cast<int64_t>(x.size()), data.data());
  row.decode(reference().decoders, data.data(), static_cast<int64_t>(x.size()), y.data());
  return relative_error(y, x);
}

struct Bound {
  TensorType type;
  double max_error;  // relative, for normally distributed weights
};
constexpr Bound kBounds[] = {{TensorType::q8_0, 0.0055}, {TensorType::q6_k, 0.0185},
                             {TensorType::q5_1, 0.0395}, {TensorType::q5_0, 0.0455},
                             {TensorType::q5_k, 0.0365}, {TensorType::q4_1, 0.0810},
                             {TensorType::q4_0, 0.0815}, {TensorType::q4_k, 0.0740},
                             {TensorType::q3_k, 0.1560}, {TensorType::q2_k, 0.2900}};

void formats() {
  std::vector<TensorType> decoded(std::begin(kQuantized), std::end(kQuantized));
  decoded.insert(decoded.end(), std::begin(kFloat8), std::end(kFloat8));
  for (const TensorType type : decoded)
    for (const size_t skew : {size_t{0}, size_t{1}}) {
      const TypeTraits& row = traits(type);
      test("weights/formats/decode " + std::string(row.name) + " skew=" + std::to_string(skew),
           [&] { return decodes(row, skew); });
    }
  for (const TensorType type : kExact)
    test("weights/formats/encode as gguf " + std::string(name_of(type)),
         [&] { return encodes(traits(type)); });
  for (const TensorType type : kFitted) {
    test("weights/formats/no larger error than gguf's " + std::string(name_of(type)),
         [&] { return improves_on_gguf(traits(type)); });
    test("weights/formats/encoding twice " + std::string(name_of(type)),
         [&] { return is_idempotent(traits(type)); });
  }
}

void errors() {
  for (const Bound& bound : kBounds)
    for (const float scale : {1.0f, 1e-3f, 300.0f}) {
      const TypeTraits& row = traits(bound.type);
      test("weights/formats/error " + std::string(row.name) + " scale=" + text(scale), [&] {
        const double found = loss(row, gaussian(row.name, 256 * 256, scale));
        return found <= bound.max_error ? std::string()
                                        : text(found) + " is more than " + text(bound.max_error);
      });
    }
  for (const TensorType type : kQuantized) {
    const TypeTraits& row = traits(type);
    test("weights/formats/representable values are kept " + std::string(row.name), [&] {
      const std::vector<float> zeros(512, 0.0f), ones(512, 1.0f);
      for (const std::vector<float>& x : {zeros, ones}) {
        std::vector<uint8_t> data(size_of(row, x.size()));
        std::vector<float> y(x.size());
        row.encode(x.data(), 512, data.data());
        row.decode(reference().decoders, data.data(), 512, y.data());
        for (size_t i = 0; i < x.size(); ++i)
          if (!(std::fabs(y[i] - x[i]) <= 1e-3f * x[i])) return text(y[i]) + " for " + text(x[i]);
      }
      return std::string();
    });
    test("weights/formats/any floats can be encoded " + std::string(row.name), [&] {
      const float infinity = std::numeric_limits<float>::infinity(),
                  nan = std::numeric_limits<float>::quiet_NaN();
      for (const float odd : {infinity, -infinity, nan, 3e38f, -3e38f, 1e-45f, 1e-38f}) {
        std::vector<float> x = gaussian("odd", 256, 1.0f);
        x[17] = odd;
        std::vector<uint8_t> data(size_of(row, x.size()));
        row.encode(x.data(), 256, data.data());
        for (float& value : x) value = odd;
        row.encode(x.data(), 256, data.data());
      }
      return std::string();
    });
  }
}

void fp16() {
  test("weights/formats/every fp16 value survives a round trip", [] {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const uint16_t in = static_cast<uint16_t>(bits);
      const float x = half_to_float(in);
      float expected;
      reference().decoders.half_to_float(&in, 1, &expected);
      const bool is_nan = std::isnan(expected);
      if (is_nan ? !std::isnan(x) : !same_bits(x, expected))
        return "fp16 " + std::to_string(bits) + " decodes to " + text(x);
      if (!is_nan && float_to_half(x) != bits)
        return "fp16 " + std::to_string(bits) + " is encoded otherwise";
      if (is_nan && !std::isnan(half_to_float(float_to_half(x))))
        return std::string("a NaN becomes a number");
    }
    return std::string();
  });
}

size_t at(int64_t o, int64_t i, int64_t n, int64_t j, int64_t m) {
  return static_cast<size_t>((o * n + i) * m + j);
}

/// A convolution of 3 outputs, 64 inputs and 2×3 taps.
struct Convolution {
  explicit Convolution(bool channels_last) : stored(gaussian("convolution", 3 * 64 * 6, 1.0f)) {
    const std::vector<float> values = stored;
    if (channels_last)
      for (int64_t o = 0; o < 3; ++o)
        for (int64_t i = 0; i < 64; ++i)
          for (int64_t t = 0; t < 6; ++t) stored[at(o, t, 6, i, 64)] = values[at(o, i, 64, t, 6)];
    tensor.name = "conv";
    tensor.shape = {3, 64, 2, 3};
    tensor.channels_last = channels_last;
    tensor.data = {std::shared_ptr<const uint8_t>(), reinterpret_cast<const uint8_t*>(stored.data())};
    tensor.bytes = stored.size() * 4;
  }
  std::vector<float> stored;
  StoredTensor tensor;
};

/// A stored tensor of this type with random bits, in `rows` rows.
struct RandomTensor {
  RandomTensor(TensorType type, int64_t rows, int64_t width) {
    Random random(name_of(type));
    bytes.resize(static_cast<size_t>(stored_bytes(type, rows * width)));
    // Small enough that no scale is infinite or NaN.
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next() % 56);
    tensor.name = "random";
    tensor.type = type;
    tensor.shape = {rows, width};
    tensor.data = {std::shared_ptr<const uint8_t>(), bytes.data()};
    tensor.bytes = bytes.size();
  }
  std::vector<uint8_t> bytes;
  StoredTensor tensor;
};

void reading() {
  for (const TensorType type : {TensorType::f8_e4m3, TensorType::q8_0, TensorType::q4_k, TensorType::q6_k})
    test("weights/formats/read " + std::string(name_of(type)) + " in rows that blocks run across", [=] {
      // 24 rows of 96 elements: 9 blocks of 256.
      RandomTensor source(type, 24, 96);
      std::vector<float> whole(24 * 96);
      traits(type).decode(reference().decoders, source.bytes.data(), 24 * 96, whole.data());
      for (const float scale : {1.0f, 0.375f}) {
        source.tensor.scale = scale;
        std::vector<float> expected = whole;
        for (float& value : expected) value *= scale;
        for (const int64_t length : {1, 31, 96, 255, 257, 800}) {
          std::vector<float> found(expected.size() + 1, -1.0f);
          for (int64_t begin = 0; begin < 24 * 96; begin += length)
            source.tensor.read(reference().decoders, begin, std::min<int64_t>(length, 24 * 96 - begin),
                               found.data() + begin);
          if (found.back() != -1.0f) return std::string("written beyond the end");
          found.pop_back();
          const std::string difference = differences(found, expected);
          if (!difference.empty()) return "pieces of " + std::to_string(length) + ": " + difference;
        }
      }
      return std::string();
    });
  test("weights/formats/convert to a type that is only read is refused", [] {
    const RandomTensor source(TensorType::f8_e4m3, 2, 64);
    ThreadPool pool(1);
    std::vector<uint8_t> out(128);
    try {
      convert_rows(source.tensor, TensorType::f8_e5m2, false, 0, 2, reference().decoders, pool, nullptr,
                   out.data());
    } catch (const Error& error) {
      return std::string(error.code() == ErrorCode::invalid_argument ? "" : "another error");
    }
    return std::string("accepted");
  });
  test("weights/formats/f64 is rounded to float32", [] {
    const double values[] = {0.1, -1e300, 1e-300, std::numeric_limits<double>::quiet_NaN(), 16777217.0};
    std::vector<uint8_t> data(sizeof values + 1);
    std::memcpy(data.data() + 1, values, sizeof values);
    std::vector<float> found(5);
    traits(TensorType::f64).decode(reference().decoders, data.data() + 1, 5, found.data());
    const float infinity = std::numeric_limits<float>::infinity();
    return differences(found, {0.1f, -infinity, 0.0f, std::numeric_limits<float>::quiet_NaN(), 16777216.0f});
  });
}

void conversion() {
  for (const bool from : {false, true})
    for (const bool to : {false, true})
      test("weights/formats/convert channels last " + std::to_string(from) + " to " + std::to_string(to),
           [=] {
             const Convolution source(from), target(to);
             ThreadPool pool(2);
             std::vector<float> out(source.stored.size());
             for (int64_t row = 0; row < 3; ++row) {
               uint8_t* bytes = reinterpret_cast<uint8_t*>(out.data() + row * 64 * 6);
               const ConversionError error = convert_rows(source.tensor, TensorType::f32, to, row, 1,
                                                          reference().decoders, pool, nullptr, bytes);
               if (error.squared_error != 0 || error.squared_norm <= 0) return std::string("wrong error");
             }
             return differences(out, target.stored);
           });
  test("weights/formats/convert is the same for any number of threads", [] {
    const Convolution source(false);
    std::vector<uint8_t> first;
    double error = 0;
    for (const int threads : {1, 2, 4}) {
      ThreadPool pool(threads);
      std::vector<uint8_t> out(
          static_cast<size_t>(3 * converted_row_bytes(source.tensor, TensorType::q4_0, true)));
      const ConversionError found = convert_rows(source.tensor, TensorType::q4_0, true, 0, 3,
                                                 reference().decoders, pool, nullptr, out.data());
      if (first.empty()) {
        first = out;
        error = found.squared_error;
      }
      if (out != first || found.squared_error != error)
        return "the result differs with " + std::to_string(threads) + " threads";
    }
    return std::string(error > 0 ? "" : "no error");
  });
  test("weights/formats/convert rejects rows that do not fill blocks, and rows out of range", [] {
    const Convolution source(false);
    ThreadPool pool(1);
    std::vector<uint8_t> out(1 << 16);
    const auto refused = [&](TensorType type, bool channels_last, int64_t first, int64_t count) {
      try {
        convert_rows(source.tensor, type, channels_last, first, count, reference().decoders, pool, nullptr,
                     out.data());
        return false;
      } catch (const Error& error) {
        return error.code() == ErrorCode::invalid_argument;
      }
    };
    if (!refused(TensorType::q8_0, false, 0, 1)) return "rows of 3 in blocks of 32";
    if (!refused(TensorType::q4_k, true, 0, 1)) return "rows of 64 in blocks of 256";
    if (!refused(TensorType::f16, true, 2, 2) || !refused(TensorType::f16, true, -1, 1))
      return "rows beyond the end";
    return "";
  });
}

const Register suite([] {
  formats();
  errors();
  fp16();
  reading();
  conversion();
});

}  // namespace
}  // namespace nd::test
