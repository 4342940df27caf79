// Each instruction against the layouts of the PTX manual, written out again here. On hardware the same cases
// say whether the emulator imitates it rightly: operands are small whole numbers, so that every sum is exact.
#include "test_kernels.h"

namespace nd::cuda_test {
namespace {

using namespace nd::cuda;

std::vector<uint32_t> words(const std::string& seed, int64_t count) {
  Random random(seed);
  std::vector<uint32_t> result(static_cast<size_t>(count));
  for (uint32_t& word : result) word = random.next();
  return result;
}

Array array_of(const std::vector<uint32_t>& values) {
  std::vector<float> bits(values.size());
  std::memcpy(bits.data(), values.data(), values.size() * 4);
  return Array::floats(bits);
}

std::vector<uint32_t> run(const char* kernel, const std::vector<uint32_t>& in, int64_t count,
                          int shared_bytes) {
  const Array from = array_of(in), to(count * 4);
  const InstructionArgs args{from.as<uint32_t>(), to.as<uint32_t>()};
  launch_test({kernel, {}, 32, shared_bytes}, &args);
  return to.read<uint32_t>(count);
}

std::string compare(const std::vector<uint32_t>& got, const std::vector<uint32_t>& want) {
  for (size_t i = 0; i < want.size(); ++i)
    if (got[i] != want[i]) return "word " + std::to_string(i);
  return "";
}

void load_matrices() {
  for (const bool transposed : {false, true}) {
    in_all_orders(std::string("cuda/instruction ldmatrix") + (transposed ? ".trans" : ""), [&] {
      const std::vector<uint32_t> in = words("matrices", 128);
      const uint16_t* halves = reinterpret_cast<const uint16_t*>(in.data());  // [4][8][8]
      std::vector<uint32_t> want(128);
      for (size_t lane = 0; lane < 32; ++lane)
        for (size_t i = 0; i < 4; ++i) {
          const size_t row = lane / 4, column = lane % 4 * 2;
          const auto at = [&](size_t r, size_t c) { return uint32_t{halves[i * 64 + r * 8 + c]}; };
          want[lane * 4 + i] = transposed ? at(column, row) | at(column + 1, row) << 16
                                          : at(row, column) | at(row, column + 1) << 16;
        }
      return compare(run(transposed ? "test_ldmatrix_trans" : "test_ldmatrix", in, 128, 512), want);
    });
  }
}

/// Elements as the kernel's registers hold them: 0: f16, 1: bf16, 2: s8.
void put_element(std::vector<uint32_t>& in, size_t word, size_t part, int element, int value) {
  const float x = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint32_t narrow = element == 0 ? to_half(x) : element == 1 ? bits >> 16 : static_cast<uint8_t>(value);
  in[word] |= narrow << (part * (element == 2 ? 8 : 16));
}

void multiply() {
  struct Kind {
    const char* kernel;
    int element;
    size_t k_summed;
  };
  for (const Kind& kind : {Kind{"test_mma_f16", 0, 16},
                           {"test_mma_bf16", 1, 16},
                           {"test_mma_s8", 2, 32},
                           {"test_mma_f16_k8", 0, 8}}) {
    in_all_orders(std::string("cuda/instruction ") + kind.kernel, [&] {
      const int element = kind.element;
      const size_t k_size = element == 2 ? 32 : 16, each = element == 2 ? 4 : 2;
      Random random(kind.kernel);
      int a[16][32], b[32][8], c[16][8];
      for (auto& row : a)
        for (int& x : row) x = static_cast<int>(random.below(17)) - 8;
      for (auto& row : b)
        for (int& x : row) x = static_cast<int>(random.below(17)) - 8;
      for (auto& row : c)
        for (int& x : row) x = static_cast<int>(random.below(101)) - 50;
      std::vector<uint32_t> in(320), want(128);
      for (size_t lane = 0; lane < 32; ++lane) {
        const size_t group = lane / 4, thread = lane % 4;
        for (size_t part = 0; part < each; ++part) {
          const size_t k = thread * each + part;
          put_element(in, lane * 10, part, element, a[group][k]);
          put_element(in, lane * 10 + 1, part, element, a[group + 8][k]);
          put_element(in, lane * 10 + 2, part, element, a[group][k + k_size / 2]);
          put_element(in, lane * 10 + 3, part, element, a[group + 8][k + k_size / 2]);
          put_element(in, lane * 10 + 4, part, element, b[k][group]);
          put_element(in, lane * 10 + 5, part, element, b[k + k_size / 2][group]);
        }
        for (size_t i = 0; i < 4; ++i) {
          const size_t row = group + i / 2 * 8, column = thread * 2 + i % 2;
          int sum = c[row][column];
          in[lane * 10 + 6 + i] = static_cast<uint32_t>(sum);
          for (size_t k = 0; k < kind.k_summed; ++k) sum += a[row][k] * b[k][column];
          want[lane * 4 + i] = static_cast<uint32_t>(sum);
        }
      }
      return compare(run(kind.kernel, in, 128, 0), want);
    });
  }
}

void copies_and_shuffles() {
  in_all_orders("cuda/instruction cp.async", [] {
    const std::vector<uint32_t> in = words("copies", 128);
    std::vector<uint32_t> want(256);
    for (size_t lane = 0; lane < 32; ++lane)
      for (size_t i = 0; i < 4; ++i) {
        const size_t other = lane ^ 1;
        want[lane * 4 + i] = other % 2 == 0 ? in[other * 4 + i] : 0;
        want[(32 + lane) * 4 + i] = in[(31 - (lane ^ 3)) * 4 + i];
      }
    return compare(run("test_cp_async", in, 256, 1024), want);
  });
  in_all_orders("cuda/instruction shuffle", [] {
    const std::vector<uint32_t> in = words("shuffles", 32);
    std::vector<uint32_t> want(192);
    for (size_t lane = 0; lane < 32; ++lane) {
      want[lane] = in[lane ^ 5];
      want[32 + lane] = in[lane + 3 < 32 ? lane + 3 : lane];
      want[64 + lane] = in[lane * 7 % 32];
      want[96 + lane] = in[lane % 8 + 3 < 8 ? lane + 3 : lane];
      for (size_t i = 0; i < 32; ++i) want[128 + lane] |= (in[i] % 3 == 0 ? 1u : 0u) << i;
      want[160 + lane] = 1;  // any
    }
    return compare(run("test_shuffle", in, 192, 0), want);
  });
}

void wgmma() {
  if (on_hardware() && backend().device().capability() != 90) return;
  for (const auto& [m, n, k] :
       {std::tuple<int64_t, int64_t, int64_t>{64, 64, 64}, {1, 1, 8}, {100, 70, 328}}) {
    in_all_orders(
        "cuda/instruction wgmma " + std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k),
        [m = m, n = n, k = k] {
          Random random("wgmma");
          std::vector<float> a(static_cast<size_t>(m * k)), b(static_cast<size_t>(n * k)), want;
          for (float& x : a) x = random.whole();
          for (float& x : b) x = random.whole();
          for (int64_t i = 0; i < m * n; ++i) {
            float sum = 0;
            for (int64_t j = 0; j < k; ++j)
              sum += a[static_cast<size_t>(i / n * k + j)] * b[static_cast<size_t>(i % n * k + j)];
            want.push_back(sum);
          }
          const Array da = Array::halves(a), db = Array::halves(b), c(m * n * 4);
          const WgmmaArgs args{
              tensor_map(da, m, k), tensor_map(db, n, k), c.as<float>(), narrow(m), narrow(n), narrow(k)};
          launch_test({"test_wgmma",
                       {pieces_of(m, kWgmmaTile), pieces_of(n, kWgmmaTile)},
                       kWgmmaThreads,
                       kWgmmaSharedBytes},
                      &args);
          return within(c.read<float>(m * n), want, 0);
        });
  }
}

const Register suite([] {
  load_matrices();
  multiply();
  copies_and_shuffles();
  wgmma();
});

}  // namespace
}  // namespace nd::cuda_test
