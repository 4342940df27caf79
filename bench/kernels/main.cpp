// kernel-bench [--table NAME] [--threads N] [--seconds S] [FILTER]: GFLOP/s of every kernel on real layers'
// shapes, and the part of the measured FMA peak. Single thread unless told. Bandwidth-bound operations give
// GB/s, read and written.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cases.h"
#include "core/thread_pool.h"
#include "kernels/kernels.h"
#include "peak.h"

namespace {

using namespace nd;

struct Options {
  std::string table, filter;
  int threads = 1;
  double seconds = 0.4;
};

Options options;
ThreadPool* pool;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds for slices 0…count−1 together, at least three rounds and options.seconds of them. With one thread:
/// the sum of every slice's shortest time, so that slices of about a millisecond find quiet moments on a busy
/// machine. Always wall time: a virtual machine charges preempted threads too little CPU time, and the best
/// of many would be such an error.
double best_time(int64_t count, const std::function<void(int64_t, int)>& slice) {
  double best = 1e30;
  std::vector<double> shortest(static_cast<size_t>(count), 1e30);
  const double begin = now();
  for (int round = 0; round < 3 || now() - begin < options.seconds; ++round) {
    const double start = now();
    if (options.threads > 1) {
      pool->parallel_for(count, nullptr, slice);
      best = std::min(best, now() - start);
      continue;
    }
    double last = start;
    for (int64_t i = 0; i < count; ++i) {
      slice(i, 0);
      const double end = now();
      shortest[static_cast<size_t>(i)] = std::min(shortest[static_cast<size_t>(i)], end - last);
      last = end;
    }
  }
  if (options.threads > 1) return best;
  double sum = 0;
  for (double time : shortest) sum += time;
  return sum;
}

/// 64-byte aligned floats with small pseudo-random values.
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(static_cast<float*>(std::aligned_alloc(64, (count * 4 + 127) / 64 * 64))) {
    uint32_t state = 12345;
    for (int64_t i = 0; i < count; ++i) {
      state = state * 1664525u + 1013904223u;
      data_[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-33f;
    }
  }
  ~Buffer() { std::free(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* get() { return data_; }

 private:
  float* data_;
};

double measure_peak(const Kernels& table) {
  const int64_t rounds = 50'000;  // a sixth of a millisecond
  const int64_t operations = bench::multiply_add(table.name, 1) * rounds;
  if (!operations) return 0;
  const double time =
      best_time(options.threads, [&](int64_t, int) { bench::multiply_add(table.name, rounds); });
  return static_cast<double>(operations) * options.threads / time;
}

void print(const Kernels& table, const std::string& name, double time, double operations, double peak) {
  std::printf("%-7s %-62s %9.3f ms %8.1f GFLOP/s", table.name, name.c_str(), time * 1e3,
              operations / time * 1e-9);
  if (peak > 0) std::printf(" %6.1f %%", 100 * operations / time / peak);
  std::printf("\n");
  std::fflush(stdout);
}

bool wanted(const std::string& name) {
  return name.find(options.filter) != std::string::npos;
}

void gemm(const Kernels& table, const cases::Gemm& c, double peak) {
  const std::string name = std::string("gemm ") + c.layer + " " + std::to_string(c.m) + "x" +
                           std::to_string(c.n) + "x" + std::to_string(c.k);
  if (!wanted(name)) return;
  // As a convolution over a band: 66 pixels a row, each window beginning one pixel after the one before.
  const int64_t length = c.k / c.runs, pixel = c.runs == 1 ? c.k : length / 3, width = 66;
  const bool geglu = c.activation == Activation::geglu;
  const int64_t columns = geglu ? c.n / 2 : c.n;
  Buffer a(c.m * pixel + 3 * width * pixel + length), b((c.n + table.nr) * c.k), out(c.m * columns),
      bias(c.n + 64), residual(c.m * columns);
  std::vector<KRun> runs;
  for (int64_t r = 0; r < c.runs; ++r) runs.push_back({r * width * pixel, length});
  GemmArgs args;
  args.a = a.get();
  args.lda = pixel;
  args.runs = runs.data();
  args.run_count = c.runs;
  args.b = b.get();
  args.m = c.m;
  args.n = c.n;
  args.k = c.k;
  args.c = out.get();
  args.ldc = columns;
  args.bias = bias.get();
  if (!geglu) args.residual = residual.get();
  args.ldr = columns;
  args.activation = c.activation;
  const int64_t panels = (c.n + table.nr - 1) / table.nr;
  // In the kernel's own order: row blocks outside, panels (64 columns) inside.
  const int64_t rows = 192, group = std::max<int64_t>(1, 64 / table.nr);
  const int64_t row_slices = (c.m + rows - 1) / rows, panel_slices = (panels + group - 1) / group;
  const double time = best_time(row_slices * panel_slices, [&](int64_t i, int) {
    const int64_t m0 = i / panel_slices * rows, p0 = i % panel_slices * group;
    table.gemm(args, m0, std::min(m0 + rows, c.m), p0, std::min(p0 + group, panels));
  });
  print(table, name, time, 2.0 * c.m * c.n * c.k, peak);
}

void attention(const Kernels& table, const cases::Attention& c, double peak) {
  const std::string name = std::string("attention ") + c.layer + " " + std::to_string(c.q_len) + "x" +
                           std::to_string(c.k_len) + "x" + std::to_string(c.head_dim) + " heads " +
                           std::to_string(c.heads);
  if (!wanted(name)) return;
  const int64_t stride = c.heads * c.head_dim;
  Buffer q(c.q_len * stride), k(c.k_len * stride), v(c.k_len * stride), out(c.q_len * stride);
  AttentionArgs args;
  args.q = q.get();
  args.k = k.get();
  args.v = v.get();
  args.out = out.get();
  args.ldq = args.ldk = args.ldv = args.ldo = stride;
  args.heads = c.heads;
  args.head_dim = c.head_dim;
  args.q_len = c.q_len;
  args.k_len = c.k_len;
  args.scale = 1.0f;
  args.causal = c.causal;
  const int64_t packed_floats = (table.attention_packed_floats(args) + 15) / 16 * 16;
  const int64_t scratch_floats = (table.attention_scratch_floats(args) + 15) / 16 * 16;
  Buffer packed(packed_floats * c.heads), scratch(scratch_floats * options.threads);
  for (int64_t head = 0; head < c.heads; ++head)
    table.attention_pack(args, 0, head, packed.get() + head * packed_floats);
  const int64_t rows = 64, chunks = (c.q_len + rows - 1) / rows;
  const double time = best_time(c.heads * chunks, [&](int64_t i, int thread) {
    const int64_t head = i / chunks, q0 = i % chunks * rows;
    table.attention(args, 0, head, q0, std::min(q0 + rows, c.q_len), packed.get() + head * packed_floats,
                    scratch.get() + thread * scratch_floats);
  });
  const double packing = best_time(c.heads, [&](int64_t head, int) {
    table.attention_pack(args, 0, head, packed.get() + head * packed_floats);
  });
  // Both products; a causal mask leaves half of them.
  print(table, name, time + packing, 4.0 * c.q_len * c.k_len * c.head_dim * c.heads * (c.causal ? 0.5 : 1.0),
        peak);
}

void bandwidth(const Kernels& table, const char* name, double bytes, const std::function<void()>& call) {
  if (!wanted(name)) return;
  const double time = best_time(1, [&](int64_t, int) { call(); });
  std::printf("%-7s %-62s %9.3f ms %8.1f GB/s\n", table.name, name, time * 1e3, bytes / time * 1e-9);
}

void bandwidth_bound(const Kernels& table) {
  const int64_t rows = 4096, c = 320, count = rows * c;
  Buffer x(count), y(count), out(count), scale(c), shift(c), mean(c), m2(c);
  bandwidth(table, "channel_moments 4096x320", 4.0 * count,
            [&] { table.channel_moments(x.get(), rows, c, mean.get(), m2.get()); });
  bandwidth(table, "affine_rows 4096x320", 8.0 * count,
            [&] { table.affine_rows(x.get(), rows, c, scale.get(), shift.get(), false, out.get()); });
  bandwidth(table, "affine_rows silu 4096x320", 8.0 * count,
            [&] { table.affine_rows(x.get(), rows, c, scale.get(), shift.get(), true, out.get()); });
  bandwidth(table, "layer_norm 4096x320", 8.0 * count,
            [&] { table.layer_norm(x.get(), rows, c, scale.get(), shift.get(), 1e-5f, out.get()); });
  bandwidth(table, "add 4096x320", 12.0 * count, [&] { table.add(x.get(), y.get(), count, out.get()); });
  bandwidth(table, "activate gelu 4096x320", 8.0 * count,
            [&] { table.activate(out.get(), count, Activation::gelu); });
  bandwidth(table, "planar_to_rows 320x4096", 8.0 * count,
            [&] { table.planar_to_rows(x.get(), c, rows, out.get()); });
  bandwidth(table, "rows_to_planar 320x4096", 8.0 * count,
            [&] { table.rows_to_planar(x.get(), c, rows, out.get()); });
  const uint16_t* halves = reinterpret_cast<const uint16_t*>(y.get());
  bandwidth(table, "half_to_float 1310720", 6.0 * count,
            [&] { table.half_to_float(halves, count, out.get()); });
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--table" && i + 1 < argc)
      options.table = argv[++i];
    else if (arg == "--threads" && i + 1 < argc)
      options.threads = std::max(1, std::atoi(argv[++i]));
    else if (arg == "--seconds" && i + 1 < argc)
      options.seconds = std::atof(argv[++i]);
    else
      options.filter = arg;
  }
  ThreadPool threads(options.threads);
  pool = &threads;
  int count = 0;
  const Kernels* const* tables = available_kernels(&count);
  for (int i = 0; i < count; ++i) {
    const Kernels& table = *tables[i];
    // The reference is far too slow for real shapes; it runs only when asked for.
    if (options.table.empty() ? std::strcmp(table.name, "ref") == 0 : options.table != table.name) continue;
    const double peak = measure_peak(table);
    std::printf("%-7s peak %.1f GFLOP/s, %d thread(s)\n", table.name, peak * 1e-9, options.threads);
    for (const auto& c : cases::kGemms) gemm(table, c, peak);
    for (const auto& c : cases::kAttentions) attention(table, c, peak);
    bandwidth_bound(table);
  }
}
