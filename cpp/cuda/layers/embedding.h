// Lookup tables of vectors.
#pragma once
#include "cuda/context.h"
#include "nn/layers.h"
#include "nn/loader.h"

namespace nd::cuda {

class Embedding final : public nd::Embedding {
 public:
  Embedding(Device& device, Loader& loader, const StoredTensor& table);

  Tensor forward(ForwardContext& ctx, const int32_t* ids, int64_t n, int64_t length) const override;
  void add_to(ForwardContext& ctx, const int32_t* ids, const Tensor& x) const override;

 private:
  void gather(ForwardContext& base, const int32_t* ids, const Tensor& y, bool add) const;

  Buffer table_;
  int64_t width_;
};

}  // namespace nd::cuda
