// A lookup table of vectors, kept as it is stored, since few of its rows are ever read.
#pragma once
#include "cpu/context.h"
#include "nn/layers.h"
#include "nn/loader.h"

namespace nd::cpu {

class Embedding final : public nd::Embedding {
 public:
  Embedding(const Device& device, Loader& loader, StoredTensor table);

  Tensor forward(ForwardContext& base, const int32_t* ids, int64_t n, int64_t length) const override;
  void add_to(ForwardContext& base, const int32_t* ids, const Tensor& x) const override;

 private:
  void hold_adapted(const Device& device, Loader& loader);

  StoredTensor table_;  // in memory, or in the file if weights are streamed
  int64_t width_;
};

}  // namespace nd::cpu
