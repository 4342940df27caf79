#include "weights/adapter.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "core/error.h"
#include "core/float_decoders.h"

namespace nd {

namespace {

/// A tensor as a matrix whose rows are read one at a time.
struct Shape {
  int64_t outputs = 1, inputs = 1, taps = 1;
  int64_t row() const { return inputs * taps; }
};

Shape shape_of(const StoredTensor& tensor) {
  Shape shape;
  if (tensor.shape.size() < 2) {
    shape.inputs = tensor.count();
    return shape;
  }
  shape.outputs = tensor.shape[0];
  shape.inputs = tensor.shape[1];
  for (size_t i = 2; i < tensor.shape.size(); ++i) shape.taps *= tensor.shape[i];
  return shape;
}

std::vector<float> read_all(const StoredTensor& tensor, const FloatDecoders& decoders) {
  std::vector<float> values(static_cast<size_t>(tensor.count()));
  tensor.read_stored(decoders, 0, tensor.count(), values.data());
  return values;
}

[[noreturn]] void does_not_fit(const StoredTensor& part, const StoredTensor& tensor) {
  std::string found;
  for (const int64_t length : part.shape) found += (found.empty() ? "" : ", ") + std::to_string(length);
  throw Error(ErrorCode::model_shape, part.file->path() + ": tensor " + part.name + " of shape [" + found +
                                          "] does not fit tensor " + tensor.name + " of the model");
}

/// Outputs and row length of a factored matrix. Error model_shape if its parts do not fit each other.
std::pair<int64_t, int64_t> checked_size(const Factored& matrix, const StoredTensor& tensor) {
  const std::vector<StoredTensor>& parts = matrix.parts;
  if (parts.empty() || parts.size() > 3)
    throw Error(ErrorCode::invalid_argument, "Expected 1 to 3 factors for tensor " + tensor.name);
  const Shape first = shape_of(parts[0]);
  if (parts.size() == 1) return {first.outputs, first.row()};
  const Shape down = shape_of(parts[1]);
  const int64_t rank = matrix.transposed_up ? first.outputs : first.row();
  const int64_t outputs = matrix.transposed_up ? first.row() : first.outputs;
  if (rank < 1 || (parts[0].shape.size() < 2) || parts[1].shape.size() < 2) does_not_fit(parts[0], tensor);
  if (parts.size() == 2) {
    if (down.outputs != rank) does_not_fit(parts[1], tensor);
    return {outputs, down.row()};
  }
  const Shape core = shape_of(parts[2]);
  if (core.outputs != rank || core.inputs != down.outputs) does_not_fit(parts[2], tensor);
  return {outputs, down.row() * core.taps};
}

/// A factored matrix in memory: row o is Σ up[o][r]·down[r], or down[o] itself where rank is 0.
struct Matrix {
  int64_t rank = 0, length = 0;
  std::vector<float> up, down;

  Matrix() = default;
  Matrix(const Factored& from, const FloatDecoders& decoders) {
    if (from.parts.size() == 1) {
      down = read_all(from.parts[0], decoders);
      length = shape_of(from.parts[0]).row();
      return;
    }
    up = read_all(from.parts[0], decoders);
    down = read_all(from.parts[1], decoders);
    const Shape first = shape_of(from.parts[0]);
    rank = from.transposed_up ? first.outputs : first.row();
    length = shape_of(from.parts[1]).row();
    if (from.transposed_up) {
      const int64_t outputs = first.row();
      std::vector<float> transposed(up.size());
      for (int64_t r = 0; r < rank; ++r)
        for (int64_t o = 0; o < outputs; ++o)
          transposed[static_cast<size_t>(o * rank + r)] = up[static_cast<size_t>(r * outputs + o)];
      up = std::move(transposed);
    }
    if (from.parts.size() == 3) fold_core(from.parts[2], decoders);
  }

  /// down'[r][i][t] = Σ core[r][s][t]·down[s][i]
  void fold_core(const StoredTensor& tensor, const FloatDecoders& decoders) {
    const std::vector<float> core = read_all(tensor, decoders);
    const Shape shape = shape_of(tensor);
    const int64_t inputs = length, taps = shape.taps;
    std::vector<float> folded(static_cast<size_t>(rank * inputs * taps));
    for (int64_t r = 0; r < rank; ++r)
      for (int64_t s = 0; s < shape.inputs; ++s)
        for (int64_t i = 0; i < inputs; ++i)
          for (int64_t t = 0; t < taps; ++t)
            folded[static_cast<size_t>((r * inputs + i) * taps + t)] +=
                core[static_cast<size_t>((r * shape.inputs + s) * taps + t)] *
                down[static_cast<size_t>(s * inputs + i)];
    down = std::move(folded);
    length = inputs * taps;
  }

  /// Rows [inputs][taps] become [taps][inputs].
  void make_channels_last(int64_t inputs, int64_t taps) {
    std::vector<float> turned(down.size());
    for (size_t row = 0; row < down.size(); row += static_cast<size_t>(length))
      for (int64_t i = 0; i < inputs; ++i)
        for (int64_t t = 0; t < taps; ++t)
          turned[row + static_cast<size_t>(t * inputs + i)] = down[row + static_cast<size_t>(i * taps + t)];
    down = std::move(turned);
  }

  /// Adds scale · row o to out.
  void add_row(const FloatDecoders& decoders, int64_t o, float scale, float* out) const {
    if (rank == 0) return decoders.add_scaled_rows(&scale, down.data() + o * length, 1, length, out);
    std::vector<float> factors(static_cast<size_t>(rank));
    for (int64_t r = 0; r < rank; ++r)
      factors[static_cast<size_t>(r)] = scale * up[static_cast<size_t>(o * rank + r)];
    decoders.add_scaled_rows(factors.data(), down.data(), rank, length, out);
  }

  size_t bytes() const { return (up.size() + down.size()) * sizeof(float); }
};

}  // namespace

void check_adapter(const Adapter& adapter, const StoredTensor& tensor) {
  using Kind = Adapter::Kind;
  const Shape shape = shape_of(tensor);
  const bool pair = adapter.kind == Kind::hadamard || adapter.kind == Kind::kronecker;
  if (adapter.factors.size() != (pair ? 2u : 1u))
    throw Error(ErrorCode::invalid_argument, "Expected another number of factors for tensor " + tensor.name);
  std::vector<std::pair<int64_t, int64_t>> sizes;
  for (const Factored& factor : adapter.factors) sizes.push_back(checked_size(factor, tensor));
  const StoredTensor& first = adapter.factors.front().parts.front();
  switch (adapter.kind) {
    case Kind::low_rank:
    case Kind::hadamard:
    case Kind::difference:
      for (const auto& size : sizes)
        if (size != std::make_pair(shape.outputs, shape.row())) does_not_fit(first, tensor);
      break;
    case Kind::kronecker:
      if (sizes[0].first * sizes[1].first != shape.outputs ||
          sizes[0].second * sizes[1].second != shape.row())
        does_not_fit(first, tensor);
      break;
    case Kind::rescale_outputs:
      if (first.count() != shape.outputs) does_not_fit(first, tensor);
      break;
    case Kind::rescale_inputs:
      if (first.count() != shape.inputs) does_not_fit(first, tensor);
      break;
  }
  for (const StoredTensor& magnitude : adapter.magnitude)
    if (magnitude.count() != (adapter.magnitude_of_inputs ? shape.inputs : shape.outputs))
      does_not_fit(magnitude, tensor);
}

/// One adapter in memory. A full difference is as large as the model, so its rows are read when they are
/// needed.
struct AdaptedRows::Ready {
  Adapter::Kind kind = Adapter::Kind::low_rank;
  float scale = 1.0f, strength = 1.0f;
  std::vector<Matrix> factors;
  StoredTensor difference;
  std::vector<float> magnitude;     // of DoRA, or empty
  std::vector<float> input_factor;  // magnitude / norm of each input channel, if they belong to inputs

  /// Adds scale·ΔW of row o to `delta`; `base` is W's row.
  void add_delta(const FloatDecoders& decoders, int64_t o, int64_t row, int64_t taps, const float* base,
                 float* delta) const {
    const size_t length = static_cast<size_t>(row);
    switch (kind) {
      case Adapter::Kind::low_rank:
        return factors[0].add_row(decoders, o, scale, delta);
      case Adapter::Kind::hadamard: {
        std::vector<float> a(length), b(length);
        factors[0].add_row(decoders, o, scale, a.data());
        factors[1].add_row(decoders, o, 1.0f, b.data());
        for (size_t i = 0; i < length; ++i) delta[i] += a[i] * b[i];
        return;
      }
      case Adapter::Kind::kronecker: {
        // Row o of A ⊗ B: row o / B's outputs of A, each element times row o mod B's outputs of B.
        const int64_t columns = factors[0].length, inner = factors[1].length, outputs = inner_outputs;
        std::vector<float> a(static_cast<size_t>(columns)), b(static_cast<size_t>(inner));
        factors[0].add_row(decoders, o / outputs, scale, a.data());
        factors[1].add_row(decoders, o % outputs, 1.0f, b.data());
        for (int64_t i = 0; i < columns; ++i)
          decoders.add_scaled_rows(&a[static_cast<size_t>(i)], b.data(), 1, inner, delta + i * inner);
        return;
      }
      case Adapter::Kind::difference: {
        std::vector<float> values(length);
        difference.read_stored(decoders, o * row, row, values.data());
        return decoders.add_scaled_rows(&scale, values.data(), 1, row, delta);
      }
      case Adapter::Kind::rescale_outputs: {
        const float factor = scale * factors[0].down[static_cast<size_t>(o)];
        return decoders.add_scaled_rows(&factor, base, 1, row, delta);
      }
      case Adapter::Kind::rescale_inputs:
        for (int64_t i = 0; i < row; ++i)
          delta[i] += scale * factors[0].down[static_cast<size_t>(i / taps)] * base[i];
        return;
    }
  }

  int64_t inner_outputs = 1;  // of a Kronecker product's second factor
};

AdaptedRows::~AdaptedRows() = default;

AdaptedRows::AdaptedRows(const StoredTensor& tensor, const FloatDecoders& decoders) {
  const Shape shape = shape_of(tensor);
  row_ = shape.row();
  inputs_ = shape.inputs;
  taps_ = shape.taps;
  channels_last_ = tensor.channels_last && taps_ > 1;
  only_low_rank_ = std::all_of(tensor.adapters->begin(), tensor.adapters->end(), [](const Adapter& adapter) {
    return adapter.kind == Adapter::Kind::low_rank && adapter.magnitude.empty();
  });
  for (const Adapter& adapter : *tensor.adapters) {
    Ready ready;
    ready.kind = adapter.kind;
    ready.scale = adapter.scale;
    ready.strength = adapter.strength;
    if (adapter.kind == Adapter::Kind::difference)
      ready.difference = adapter.factors[0].parts[0];
    else
      for (const Factored& factor : adapter.factors) ready.factors.emplace_back(factor, decoders);
    if (adapter.kind == Adapter::Kind::kronecker)
      ready.inner_outputs = checked_size(adapter.factors[1], tensor).first;
    if (!adapter.magnitude.empty()) ready.magnitude = read_all(adapter.magnitude[0], decoders);
    if (!ready.magnitude.empty() && adapter.magnitude_of_inputs) {
      // The norm of an input channel needs all rows, so W is read once more.
      std::vector<double> squares(static_cast<size_t>(inputs_));
      std::vector<float> base(static_cast<size_t>(row_)), sum;
      for (int64_t o = 0; o < shape.outputs; ++o) {
        read_row(tensor, decoders, o, base.data());
        sum = base;
        ready.add_delta(decoders, o, row_, taps_, base.data(), sum.data());
        for (int64_t i = 0; i < row_; ++i)
          squares[static_cast<size_t>(i / taps_)] +=
              static_cast<double>(sum[static_cast<size_t>(i)]) * sum[static_cast<size_t>(i)];
      }
      for (int64_t i = 0; i < inputs_; ++i) {
        const double norm = std::sqrt(squares[static_cast<size_t>(i)]);
        ready.input_factor.push_back(
            norm > 0 ? static_cast<float>(ready.magnitude[static_cast<size_t>(i)] / norm) : 0.0f);
      }
    }
    if (only_low_rank_ && channels_last_) ready.factors[0].make_channels_last(inputs_, taps_);
    adapters_.push_back(std::move(ready));
  }
}

void AdaptedRows::read_row(const StoredTensor& tensor, const FloatDecoders& decoders, int64_t o,
                           float* out) const {
  if (!channels_last_) return tensor.read_stored(decoders, o * row_, row_, out);
  std::vector<float> stored(static_cast<size_t>(row_));
  tensor.read_stored(decoders, o * row_, row_, stored.data());
  for (int64_t t = 0; t < taps_; ++t)
    for (int64_t i = 0; i < inputs_; ++i) out[i * taps_ + t] = stored[static_cast<size_t>(t * inputs_ + i)];
}

void AdaptedRows::apply(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* values) const {
  if (only_low_rank_) {
    for (int64_t first = 0; first < elements; first += row_)
      for (const Ready& adapter : adapters_)
        adapter.factors[0].add_row(decoders, (begin + first) / row_, adapter.scale, values + first);
    return;
  }
  std::vector<float> base(static_cast<size_t>(row_)), sum, total;
  for (int64_t first = 0; first < elements; first += row_) {
    float* row = values + first;
    const int64_t o = (begin + first) / row_;
    if (channels_last_) {
      for (int64_t t = 0; t < taps_; ++t)
        for (int64_t i = 0; i < inputs_; ++i) base[static_cast<size_t>(i * taps_ + t)] = row[t * inputs_ + i];
    } else {
      std::copy_n(row, row_, base.data());
    }
    // Each adapter sees the stored W, so that their order does not matter.
    total = base;
    for (const Ready& adapter : adapters_) {
      if (adapter.magnitude.empty()) {
        adapter.add_delta(decoders, o, row_, taps_, base.data(), total.data());
        continue;
      }
      sum = base;
      adapter.add_delta(decoders, o, row_, taps_, base.data(), sum.data());
      double squares = 0;
      for (const float x : sum) squares += static_cast<double>(x) * x;
      const double norm = std::sqrt(squares);
      const float of_row = adapter.input_factor.empty() && norm > 0
                               ? static_cast<float>(adapter.magnitude[static_cast<size_t>(o)] / norm)
                               : 0.0f;
      for (int64_t i = 0; i < row_; ++i) {
        const size_t at = static_cast<size_t>(i);
        const float factor =
            adapter.input_factor.empty() ? of_row : adapter.input_factor[static_cast<size_t>(i / taps_)];
        total[at] += adapter.strength * (factor * sum[at] - base[at]);
      }
    }
    if (channels_last_) {
      for (int64_t t = 0; t < taps_; ++t)
        for (int64_t i = 0; i < inputs_; ++i)
          row[t * inputs_ + i] = total[static_cast<size_t>(i * taps_ + t)];
    } else {
      std::copy_n(total.data(), row_, row);
    }
  }
}

size_t AdaptedRows::bytes() const {
  size_t sum = 0;
  for (const Ready& adapter : adapters_) {
    for (const Matrix& matrix : adapter.factors) sum += matrix.bytes();
    sum += (adapter.magnitude.size() + adapter.input_factor.size()) * sizeof(float);
  }
  return sum;
}

StoredTensor adapted(const StoredTensor& tensor, const FloatDecoders& decoders) {
  StoredTensor result = tensor;
  if (tensor.adapters) result.rows = std::make_shared<const AdaptedRows>(tensor, decoders);
  return result;
}

}  // namespace nd
