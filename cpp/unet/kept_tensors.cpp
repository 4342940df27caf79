#include "unet/kept_tensors.h"

#include "nn/backend.h"

namespace nd {

size_t KeptTensors::bytes_of(const Shape& shape, size_t element_bytes) {
  const size_t bytes = static_cast<size_t>(shape.n * shape.h * shape.w * shape.c) * element_bytes;
  return (bytes + Arena::kAlignment - 1) / Arena::kAlignment * Arena::kAlignment;
}

void KeptTensors::expect(size_t index, int64_t n, int64_t h, int64_t w, int64_t c) {
  if (index == 0) shapes_.clear();
  shapes_.push_back({n, h, w, c});
}

size_t KeptTensors::bytes(size_t element_bytes) const {
  size_t sum = 0;
  for (const Shape& shape : shapes_) sum += bytes_of(shape, element_bytes);
  return sum;
}

void KeptTensors::allocate(ForwardContext& ctx) {
  Memory& memory = ctx.backend.memory();
  if (in(memory) && allocated_ == shapes_) return;
  base_ = {};
  if (memory_ != &memory) {
    memory_ = &memory;
    arena_ = std::make_unique<Arena>(memory);
  }
  const size_t element_bytes = ctx.backend.element_bytes();
  arena_->reserve(bytes(element_bytes));
  offsets_.clear();
  size_t offset = 0;
  for (const Shape& shape : shapes_) {
    offsets_.push_back(offset);
    offset += bytes_of(shape, element_bytes);
  }
  base_ = arena_->allocate(offset);
  allocated_ = shapes_;
}

void KeptTensors::describe(std::vector<uint64_t>& key) const {
  key.push_back(base_.value);
  key.push_back(allocated_.size());
  for (const Shape& shape : allocated_)
    for (const int64_t size : {shape.n, shape.h, shape.w, shape.c})
      key.push_back(static_cast<uint64_t>(size));
}

Tensor KeptTensors::view(size_t index) const {
  const Shape& shape = allocated_.at(index);
  return Tensor::borrowed(base_ + offsets_.at(index), shape.n, shape.h, shape.w, shape.c);
}

}  // namespace nd
