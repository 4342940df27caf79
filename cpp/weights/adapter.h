// LoRA and its relatives: what an adapter file changes in one stored tensor W, applied to its rows while they
// are read. W counts as a matrix [outputs][row], a row being everything but the first dimension, in torch
// order; a vector is one row.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "weights/stored_tensor.h"

namespace nd {

/// A matrix [outputs][row] in one of three forms: itself; up [outputs][rank] and down [rank][row]; or those
/// two with a core [rank][rank][kh][kw] between them (Tucker decomposition of a convolution, where down is
/// [rank][inputs]).
struct Factored {
  std::vector<StoredTensor> parts;  // {matrix}, {up, down} or {up, down, core}
  bool transposed_up = false;       // up is stored [rank][outputs], as LyCORIS does beside a core
};

struct Adapter {
  enum class Kind {
    low_rank,         // ΔW = up·down (Hu et al. 2021, "LoRA"); with a core: LoCon
    hadamard,         // ΔW = A ⊙ B (Hyeon-Woo et al. 2021, "FedPara"; LyCORIS' LoHa)
    kronecker,        // ΔW = A ⊗ B (LyCORIS' LoKr)
    difference,       // ΔW as it is
    rescale_outputs,  // ΔW = diag(s)·W (Liu et al. 2022, "(IA)³")
    rescale_inputs,   // ΔW = W·diag(s), one factor for each input channel
  };
  Kind kind = Kind::low_rank;
  /// ΔW is multiplied by it: alpha / rank and, without a magnitude, the strength asked for.
  float scale = 1.0f;
  std::vector<Factored> factors;  // two for hadamard and kronecker, else one
  /// DoRA (Liu et al. 2024): W + ΔW is rescaled to these norms, [outputs] or, of `magnitude_of_inputs`,
  /// [inputs]. Empty or one tensor.
  std::vector<StoredTensor> magnitude;
  bool magnitude_of_inputs = false;
  /// With a magnitude: how far to go from W (0) to the result (1).
  float strength = 1.0f;
};

/// Error model_shape, naming the adapter's tensor, unless the adapter fits `tensor`.
void check_adapter(const Adapter& adapter, const StoredTensor& tensor);

/// The tensor, ready for read(): the factors of its adapters are read into memory, where they stay as long as
/// any copy of the result lives. Without adapters, the tensor itself.
StoredTensor adapted(const StoredTensor& tensor, const FloatDecoders& decoders);

/// Adapters ready to be applied to rows of one tensor.
class AdaptedRows {
 public:
  AdaptedRows(const StoredTensor& tensor, const FloatDecoders& decoders);
  ~AdaptedRows();
  AdaptedRows(const AdaptedRows&) = delete;
  AdaptedRows& operator=(const AdaptedRows&) = delete;

  /// `values` holds elements [begin, begin + elements) of W as stored, whole rows; they become those of the
  /// adapted W.
  void apply(const FloatDecoders& decoders, int64_t begin, int64_t elements, float* values) const;
  /// Bytes of the factors in memory.
  size_t bytes() const;

 private:
  struct Ready;
  /// Row o of the stored W, in torch order.
  void read_row(const StoredTensor& tensor, const FloatDecoders& decoders, int64_t o, float* out) const;

  std::vector<Ready> adapters_;
  int64_t row_ = 0, inputs_ = 0, taps_ = 1;
  bool channels_last_ = false;
  /// Every adapter only adds a product of two factors, whose rows are then kept in the stored order.
  bool only_low_rank_ = false;
};

}  // namespace nd
