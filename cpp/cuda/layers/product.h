// A product with stored weights: what linear layers and convolutions have in common.
#pragma once
#include <functional>
#include <vector>

#include "cuda/context.h"
#include "nn/layers.h"
#include "nn/loader.h"
#include "weights/weight_table.h"

namespace nd::cuda {

class Int8Tensor;

/// Shape and addresses of one product; what is not set is that of a linear layer.
struct ProductCall {
  const Tensor* x = nullptr;
  /// Null, or a tensor with more channels of the same pixels, see suits_second().
  const Tensor* second = nullptr;
  /// Null, or x as int8, if Product::takes_int8(); the tensor then gives only its shape.
  const Int8Tensor* int8 = nullptr;
  const Tensor* y = nullptr;
  int64_t grid_h = 0, grid_w = 0;  // of one image; 0: as x
  int64_t stride = 1, pad_y = 0, pad_x = 0, kernel_w = 1;
  int64_t out_step = 1, out_y = 0, out_x = 0;
  int64_t parities = 1;
  bool pointwise = true;
  float alpha = 1;
  bool bias = true;
  size_t weights_offset = 0;  // bytes
  int64_t chunks = 0;         // of the weights' rows; 0: all
  bool moments = false;       // y's are kept beside it, see TensorMoments; all of y is written
};

/// Quantized or float8 weights of one type, as they are stored.
struct StoredBlocks {
  /// The rows of each follow those of the one before.
  std::vector<StoredTensor> tensors;
  int64_t taps = 1;
  bool folded = false;  // a 3×3 convolution after upsampling, see Conv2d
  bool int8 = false;    // the policy lets this layer multiply int8
};

class Product {
 public:
  /// row(o, out): row o of the weights, [taps][in] float32; there are `out` rows for each of `planes`.
  using FillRow = std::function<void(int64_t row, float* out)>;

  Product() = default;
  /// geglu: rows are values, then as many gates.
  Product(Device& device, Loader& loader, int64_t in, int64_t taps, int64_t out, bool geglu,
          const FillRow& fill, const std::vector<float>& bias, int64_t planes = 1);
  /// The same from blocks, which stay what they are in the GPU's memory. holds_blocks() must be true.
  Product(Device& device, Loader& loader, int64_t in, int64_t taps, int64_t out, bool geglu,
          const StoredBlocks& stored, const std::vector<float>& bias, int64_t planes = 1);
  /// Whether weights of these tensors can stay in blocks, and are worth it.
  static bool holds_blocks(const StoredBlocks& stored);

  int64_t in() const { return in_; }
  int64_t out() const { return geglu_ ? out_ / 2 : out_; }
  int64_t chunks() const { return chunks_; }
  /// Bytes of one plane of the weights.
  size_t plane_bytes() const { return static_cast<size_t>(rows_ * chunks_ * 8) * 2; }
  void run(Context& ctx, const ProductCall& call, const Epilogue& epilogue) const;
  /// Whether this call multiplies int8 if whatever writes x can write it as int8.
  bool takes_int8(const Device& device, const ProductCall& call) const;

 private:
  /// The sizes alone; the other constructors add the weights.
  Product(int64_t in, int64_t taps, int64_t out, bool geglu);
  ProductArgs arguments(const ProductCall& call, const Epilogue& epilogue) const;
  void set_bias(const Device& device, Loader& loader, const std::vector<float>& bias);

  int64_t in_ = 0, out_ = 0, rows_ = 0, chunks_ = 0;  // rows_: of the weights as they are packed
  bool geglu_ = false;
  Buffer weights_, bias_, scales_;  // scales_: of float8 weights, one for each stored tensor
  /// Of weights_ that are blocks; decode_.total is 0 where they are halves. Where int8 may be multiplied, all
  /// of their scales lie behind all codes, decode_.block_scales from the first.
  DecodeArgs decode_{};
};

}  // namespace nd::cuda
