#include "nn/linear.h"

#include <algorithm>

namespace nd {

namespace {
constexpr int64_t kConvertRows = 64;  // tokens narrowed by one task
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
  const Compute compute = loader.compute_for(tensors.front()->type, options.sensitive);
  weights_ = PackedMatrix(loader, compute, n, Inner{1, 1, in}, [&](int64_t j, float* out) {
    const int64_t row = source[static_cast<size_t>(j)];
    tensors[static_cast<size_t>(row / out_each)]->read(loader.kernels, row % out_each * in, in, out);
  });

  if (!options.bias) return;
  std::vector<float> plain;
  for (const std::string& name : names) {
    const std::vector<float> part = loader.vector(name + ".bias", out_each);
    plain.insert(plain.end(), part.begin(), part.end());
  }
  for (const int64_t row : source) bias_.push_back(plain[static_cast<size_t>(row)]);
}

Feature Linear::forward(Run& run, const Feature& x, const Fuse& fuse) const {
  const int64_t columns = geglu_ ? weights_.n() / 2 : weights_.n(), rows = x.rows();
  Feature out(run, x.n, x.h, x.w, columns);
  LowGemmArgs args;
  args.a = x.data();
  args.lda = x.c;
  args.m = rows;
  args.c = out.data();
  args.ldc = args.ldr = columns;
  args.bias = bias_.empty() ? nullptr : bias_.data();
  args.image_bias = fuse.image_bias;
  args.image_bias_stride = fuse.image_bias_stride;
  args.rows_per_image = x.pixels();
  args.residual = fuse.residual ? fuse.residual->data() : nullptr;
  args.activation = geglu_ ? Activation::geglu : fuse.activation;
  if (!weights_.low()) {
    run_product(run, weights_, nullptr, 1, args);
    return out;
  }
  const PixelBuffer narrow(run, weights_.format(), rows);
  run.parallel((rows + kConvertRows - 1) / kConvertRows, [&](int64_t task, int) {
    const int64_t first = task * kConvertRows;
    narrow.write(first, x.data() + first * x.c, std::min(kConvertRows, rows - first), nullptr, nullptr, false);
  });
  args.lda = weights_.padded_channels();
  run_product(run, weights_, &narrow, 1, args);
  return out;
}

}  // namespace nd
