#include "nn/linear.h"

#include <algorithm>

namespace nd {

namespace {

// A product is cut into about this many tasks, whatever the number of threads, but no task has fewer rows than
// kMinRows: each streams a whole weight panel, which must pay.
constexpr int64_t kTasks = 64;
constexpr int64_t kMinRows = 192;
constexpr int64_t kRowMultiple = 24;  // of every table's register tile

int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

}  // namespace

void run_gemm(Run& run, const GemmArgs& args) {
  const int64_t panels = (args.n + run.kernels.nr - 1) / run.kernels.nr;
  const int64_t rows = round_up(std::max(kMinRows, (args.m * panels + kTasks - 1) / kTasks), kRowMultiple);
  const int64_t chunks = (args.m + rows - 1) / rows;
  run.parallel(chunks * panels, [&](int64_t task, int) {
    // Neighbouring tasks share a panel, so that it is fetched once for all threads.
    const int64_t panel = task / chunks, chunk = task % chunks;
    run.kernels.gemm(args, chunk * rows, std::min(args.m, (chunk + 1) * rows), panel, panel + 1);
  });
}

Linear::Linear(Loader& loader, const std::string& name, int64_t in, int64_t out, LinearOptions options)
    : Linear(loader, std::vector<std::string>{name}, in, out, options) {}

Linear::Linear(Loader& loader, const std::vector<std::string>& names, int64_t in, int64_t out_each,
               LinearOptions options)
    : geglu_(options.geglu) {
  const int64_t nr = loader.kernels.nr, n = out_each * static_cast<int64_t>(names.size());
  std::vector<const StoredTensor*> tensors;
  for (const std::string& name : names) tensors.push_back(&loader.weights.require(name + ".weight", {out_each, in}));

  // Where each column of the product comes from; geglu wants values and their gates in one panel.
  std::vector<int64_t> source(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) {
    source[static_cast<size_t>(j)] = j;
    if (!geglu_) continue;
    const int64_t first = j / nr * nr, half = std::min(nr, n - first) / 2, slot = j - first;
    source[static_cast<size_t>(j)] = slot < half ? first / 2 + slot : n / 2 + first / 2 + slot - half;
  }
  weights_ = PackedMatrix(loader, n, in, [&](int64_t j, float* out) {
    const int64_t row = source[static_cast<size_t>(j)];
    tensors[static_cast<size_t>(row / out_each)]->read(loader.kernels, row % out_each * in, in, out);
  });
  for (const StoredTensor* tensor : tensors) tensor->file->forget(tensor->data, tensor->bytes);

  if (!options.bias) return;
  std::vector<float> plain;
  for (const std::string& name : names) {
    const std::vector<float> part = loader.vector(name + ".bias", out_each);
    plain.insert(plain.end(), part.begin(), part.end());
  }
  for (const int64_t row : source) bias_.push_back(plain[static_cast<size_t>(row)]);
}

Feature Linear::forward(Run& run, const Feature& x, const Fuse& fuse) const {
  const int64_t columns = geglu_ ? weights_.n / 2 : weights_.n;
  Feature out(run, x.n, x.h, x.w, columns);
  const KRun whole{0, weights_.k};
  GemmArgs args;
  args.a = x.data();
  args.lda = weights_.k;
  args.runs = &whole;
  args.run_count = 1;
  args.b = weights_.data();
  args.m = x.rows();
  args.n = weights_.n;
  args.k = weights_.k;
  args.c = out.data();
  args.ldc = columns;
  args.bias = bias_.empty() ? nullptr : bias_.data();
  args.image_bias = fuse.image_bias;
  args.image_bias_stride = fuse.image_bias_stride;
  args.rows_per_image = x.pixels();
  args.residual = fuse.residual ? fuse.residual->data() : nullptr;
  args.ldr = columns;
  args.activation = geglu_ ? Activation::geglu : fuse.activation;
  run_gemm(run, args);
  return out;
}

}  // namespace nd
