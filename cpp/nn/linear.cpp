#include "nn/linear.h"

#include <algorithm>

namespace nd {

namespace {
constexpr int64_t kConvertRows = 64;    // tokens narrowed by one task
constexpr int64_t kInPlaceRows = 8192;  // computed beside their input before they are written over it
constexpr int64_t kThroughRows = 4096;  // of the wide activations between two layers
}  // namespace

Linear::Linear(Loader& loader, const std::string& name, int64_t in, int64_t out, LinearOptions options)
    : Linear(loader, std::vector<std::string>{name}, in, out, options) {}

Linear::Linear(Loader& loader, const std::vector<std::string>& names, int64_t in, int64_t out_each,
               LinearOptions options)
    : geglu_(options.geglu) {
  const int64_t nr = loader.kernels.nr, n = out_each * static_cast<int64_t>(names.size());
  std::vector<StoredTensor> tensors;
  for (const std::string& name : names)
    tensors.push_back(loader.weights.require(name + ".weight", {out_each, in}));

  // Where each column of the product comes from; geglu wants values and their gates in one panel.
  std::vector<int64_t> source(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) {
    source[static_cast<size_t>(j)] = j;
    if (!geglu_) continue;
    const int64_t first = j / nr * nr, half = std::min(nr, n - first) / 2, slot = j - first;
    source[static_cast<size_t>(j)] = slot < half ? first / 2 + slot : n / 2 + first / 2 + slot - half;
  }
  const Compute compute = loader.compute_for(tensors.front().type, options.sensitive);
  RowSource rows;
  const auto shared = std::make_shared<const std::vector<StoredTensor>>(std::move(tensors));
  rows.stored = [shared, source, in, out_each](int64_t j) {
    const int64_t row = source[static_cast<size_t>(j)];
    return StoredRow{&(*shared)[static_cast<size_t>(row / out_each)], row % out_each * in};
  };
  rows.fill = [stored = rows.stored, in, &kernels = loader.kernels](int64_t j, float* out) {
    const StoredRow row = stored(j);
    row.tensor->read(kernels, row.begin, in, out);
  };
  weights_ = PackedMatrix(loader, compute, n, Inner{1, 1, in}, std::move(rows));

  if (!options.bias) return;
  std::vector<float> plain;
  for (const std::string& name : names) {
    const std::vector<float> part = loader.vector(name + ".bias", out_each);
    plain.insert(plain.end(), part.begin(), part.end());
  }
  for (const int64_t row : source) bias_.push_back(plain[static_cast<size_t>(row)]);
}

/// args.m rows of x into args.c; x may be narrowed first.
void Linear::multiply(Run& run, const Panels& weights, const float* x, LowGemmArgs args) const {
  const Profiled layer(run, geglu_ ? "linear, GEGLU" : "linear", weights_.multiplies());
  const int64_t rows = args.m, channels = weights_.channels();
  args.bias = bias_.empty() ? nullptr : bias_.data();
  args.a = x;
  args.lda = channels;
  if (!weights_.low()) return run_product(run, weights, nullptr, 1, args);
  const PixelBuffer narrow(run, weights_.format(), rows);
  run.parallel((rows + kConvertRows - 1) / kConvertRows, [&](int64_t task, int) {
    const int64_t first = task * kConvertRows;
    narrow.write(first, x + first * channels, std::min(kConvertRows, rows - first), nullptr, nullptr, false);
  });
  run_product(run, weights, &narrow, 1, args);
}

Feature Linear::forward(Run& run, const Feature& x, const Fuse& fuse) const {
  Feature out(run, x.n, x.h, x.w, geglu_ ? weights_.n() / 2 : weights_.n());
  LowGemmArgs args;
  args.m = x.rows();
  args.c = out.data();
  args.ldc = args.ldr = out.c;
  args.image_bias = fuse.image_bias;
  args.image_bias_stride = fuse.image_bias_stride;
  args.rows_per_image = x.pixels();
  args.residual = fuse.residual ? fuse.residual->data() : nullptr;
  args.activation = geglu_ ? Activation::geglu : fuse.activation;
  multiply(run, Panels(run, weights_), x.data(), args);
  return out;
}

Feature Linear::forward_in_place(Run& run, Feature x) const {
  const int64_t rows = x.rows(), columns = weights_.n();
  const int64_t piece = std::min(rows, kInPlaceRows);
  const Scratch<float> product(run, piece * columns);
  const Panels weights(run, weights_);
  for (int64_t first = 0; first < rows; first += piece) {
    LowGemmArgs args;
    args.m = std::min(piece, rows - first);
    args.c = product.data();
    args.ldc = columns;
    multiply(run, weights, x.data() + first * x.c, args);
    // Rows before first + piece have been read: their memory is free for fewer columns of as many rows.
    const int64_t tasks = (args.m + kConvertRows - 1) / kConvertRows;
    run.parallel(tasks, [&](int64_t task, int) {
      const int64_t begin = task * kConvertRows, count = std::min(kConvertRows, args.m - begin);
      std::copy_n(product.data() + begin * columns, count * columns, x.data() + (first + begin) * columns);
    });
    if (run.measuring()) break;
  }
  x.c = columns;
  return x;
}

void Linear::add_through(Run& run, const Linear& first, const Linear& last, const Feature& normed,
                         const Feature& x) {
  const int64_t rows = x.rows(), width = last.weights_.channels(), piece = std::min(rows, kThroughRows);
  const Scratch<float> hidden(run, piece * width);
  const Panels first_weights(run, first.weights_), last_weights(run, last.weights_);
  for (int64_t begin = 0; begin < rows; begin += piece) {
    LowGemmArgs args;
    args.m = std::min(piece, rows - begin);
    args.c = hidden.data();
    args.ldc = width;
    args.activation = first.geglu_ ? Activation::geglu : Activation::none;
    first.multiply(run, first_weights, normed.data() + begin * normed.c, args);
    args.activation = Activation::none;
    args.c = x.data() + begin * x.c;
    args.ldc = args.ldr = x.c;
    args.residual = args.c;
    last.multiply(run, last_weights, hidden.data(), args);
    if (run.measuring()) break;
  }
}

}  // namespace nd
