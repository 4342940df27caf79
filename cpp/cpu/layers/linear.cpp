#include "cpu/layers/linear.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace nd::cpu {

namespace {
constexpr int64_t kConvertRows = 64;    // tokens that a task converts or copies
constexpr int64_t kInPlaceRows = 8192;  // rows of output that exist beside their input
constexpr int64_t kHiddenRows = 4096;   // rows of the wide activations between two layers
}  // namespace

GemmEpilogue kernel_epilogue(const Epilogue& epilogue) {
  GemmEpilogue result;
  if (epilogue.image_bias) {
    result.image_bias = data(*epilogue.image_bias) + epilogue.image_bias_channel;
    result.image_bias_stride = epilogue.image_bias->c;
  }
  result.residual = epilogue.residual ? data(*epilogue.residual) : nullptr;
  result.activation = epilogue.activation;
  return result;
}

Linear::Linear(const Device& device, Loader& loader, LinearWeights weights, const LinearOptions& options)
    : geglu_(options.geglu) {
  const int64_t nr = device.kernels.nr, n = weights.out(), in = weights.in, out_each = weights.out_each;
  // The stored row of each column of the product: GEGLU needs values and their gates in one panel.
  std::vector<int64_t> source(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) {
    source[static_cast<size_t>(j)] = j;
    if (!geglu_) continue;
    const int64_t first = j / nr * nr, half = std::min(nr, n - first) / 2, slot = j - first;
    source[static_cast<size_t>(j)] = slot < half ? first / 2 + slot : n / 2 + first / 2 + slot - half;
  }
  RowSource rows;
  const auto shared = std::make_shared<const std::vector<StoredTensor>>(std::move(weights.matrices));
  rows.stored = [shared, source, in, out_each](int64_t j) {
    const int64_t row = source[static_cast<size_t>(j)];
    return StoredRow{&(*shared)[static_cast<size_t>(row / out_each)], row % out_each * in};
  };
  const auto read = rows.stored;
  // Rows with adapters are not what is stored.
  for (const StoredTensor& matrix : *shared)
    if (matrix.rows) rows.stored = nullptr;
  rows.fill = [stored = read, in, &kernels = device.kernels](int64_t j, float* out) {
    const StoredRow row = stored(j);
    row.tensor->read(kernels.decoders, row.begin, in, out);
  };
  weights_ = PackedMatrix(device, loader, weights.compute, n, Inner{1, 1, in}, std::move(rows));
  for (size_t j = 0; j < weights.bias.size(); ++j)
    bias_.push_back(weights.bias[static_cast<size_t>(source[j])]);
}

/// Counts the product of rows that a measuring run leaves out.
void Linear::count(Context& ctx, int64_t rows) const {
  const Profiled layer(ctx.profile, geglu_ ? "linear, GEGLU" : "linear", weights_.product_compute());
  count_product(ctx, weights_, rows);
}

/// Multiplies `rows` rows of x, which are converted first in reduced precision.
void Linear::multiply(Context& ctx, const Panels& weights, const float* x, int64_t rows,
                      GemmEpilogue epilogue) const {
  const Profiled layer(ctx.profile, geglu_ ? "linear, GEGLU" : "linear", weights_.product_compute());
  const int64_t channels = weights_.inner().channels;
  epilogue.bias = bias_.empty() ? nullptr : bias_.data();
  ProductInput input;
  input.rows = rows;
  if (!weights_.reduced()) {
    input.data = x;
    input.ld = channels;
    return run_product(ctx, weights, input, epilogue);
  }
  const PixelBuffer converted(ctx, weights_.format(), rows);
  ctx.parallel((rows + kConvertRows - 1) / kConvertRows, [&](int64_t task, int) {
    const int64_t first = task * kConvertRows;
    converted.write(first, x + first * channels, std::min(kConvertRows, rows - first), nullptr, nullptr,
                    false);
  });
  input.pixels = &converted;
  run_product(ctx, weights, input, epilogue);
}

Tensor Linear::forward(ForwardContext& base, const Tensor& x, const Epilogue& epilogue) const {
  Context& ctx = Context::of(base);
  Tensor out(ctx, x.n, x.h, x.w, geglu_ ? weights_.n() / 2 : weights_.n());
  GemmEpilogue finish = kernel_epilogue(epilogue);
  finish.c = data(out);
  finish.ldc = finish.ldr = out.c;
  finish.rows_per_image = x.pixels();
  if (geglu_) finish.activation = Activation::geglu;
  multiply(ctx, Panels(ctx, weights_), data(x), x.rows(), finish);
  return out;
}

Tensor Linear::forward_in_place(ForwardContext& base, Tensor x) const {
  Context& ctx = Context::of(base);
  const int64_t rows = x.rows(), columns = weights_.n();
  const int64_t piece = std::min(rows, kInPlaceRows);
  const Scratch<float> product(ctx, piece * columns);
  const Panels weights(ctx, weights_);
  ArenaLoop loop(ctx.arena);
  for (int64_t first = 0; first < rows; first += piece) {
    loop.begin_round();
    const int64_t piece_rows = std::min(piece, rows - first);
    GemmEpilogue epilogue;
    epilogue.c = product.data();
    epilogue.ldc = columns;
    multiply(ctx, weights, data(x) + first * x.c, piece_rows, epilogue);
    // All rows before first + piece have been read: as many rows of fewer columns fit in their memory.
    const int64_t tasks = (piece_rows + kConvertRows - 1) / kConvertRows;
    ctx.parallel(tasks, [&](int64_t task, int) {
      const int64_t begin = task * kConvertRows, count = std::min(kConvertRows, piece_rows - begin);
      std::copy_n(product.data() + begin * columns, count * columns, data(x) + (first + begin) * columns);
    });
    if (ctx.measuring()) {
      count(ctx, rows - piece_rows);
      break;
    }
  }
  x.c = columns;
  return x;
}

FeedForward::FeedForward(const Device& device, Loader& loader, LinearWeights in, LinearWeights out) {
  LinearOptions gated;
  gated.geglu = true;
  in_ = Linear(device, loader, std::move(in), gated);
  out_ = Linear(device, loader, std::move(out), {});
}

void FeedForward::add_to(ForwardContext& base, const Tensor& normed, const Tensor& x) const {
  Context& ctx = Context::of(base);
  const int64_t rows = x.rows(), width = out_.weights_.inner().channels, piece = std::min(rows, kHiddenRows);
  const Scratch<float> hidden(ctx, piece * width);
  const Panels in_weights(ctx, in_.weights_), out_weights(ctx, out_.weights_);
  ArenaLoop loop(ctx.arena);
  for (int64_t begin = 0; begin < rows; begin += piece) {
    loop.begin_round();
    const int64_t count = std::min(piece, rows - begin);
    GemmEpilogue gate;
    gate.c = hidden.data();
    gate.ldc = width;
    gate.activation = Activation::geglu;
    in_.multiply(ctx, in_weights, data(normed) + begin * normed.c, count, gate);
    GemmEpilogue sum;
    sum.c = data(x) + begin * x.c;
    sum.ldc = sum.ldr = x.c;
    sum.residual = sum.c;
    out_.multiply(ctx, out_weights, hidden.data(), count, sum);
    if (ctx.measuring()) {
      in_.count(ctx, rows - count);
      out_.count(ctx, rows - count);
      break;
    }
  }
}

}  // namespace nd::cpu
