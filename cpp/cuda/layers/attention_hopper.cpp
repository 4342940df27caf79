#include "cuda/layers/attention_hopper.h"

#include "cuda/layers/tensor_map.h"

namespace nd::cuda {
namespace {

constexpr int kFirst = static_cast<int>(Kernel::attention_hopper_40);
constexpr int64_t kMaxHeadDim = kHopperAttentionShapes[kHopperAttentionCount - 1].dim;

int shape_index(int64_t head_dim) {
  int index = 0;
  while (head_dim > kHopperAttentionShapes[index].dim) ++index;
  return index;
}

}  // namespace

bool attends_by_warpgroups(const Device& device, const SelfAttentionShape& shape, bool causal) {
  if (causal || shape.head_dim % 8 != 0 || shape.head_dim > kMaxHeadDim) return false;
  const WarpgroupProducts which = device.warpgroup_products();
  return which == WarpgroupProducts::all ||
         (which == WarpgroupProducts::faster &&
          shape.length >= device.hopper_times().attention_tokens[shape_index(shape.head_dim)]);
}

Kernel hopper_attention_kernel(int64_t head_dim) {
  return static_cast<Kernel>(kFirst + shape_index(head_dim));
}

Grid hopper_attention_grid(const SelfAttentionShape& shape) {
  return {pieces_of(shape.length, kHopperRows), shape.heads, shape.images};
}

HopperAttentionArgs hopper_attention_arguments(const Driver& driver, const half* qkv, half* out,
                                               const SelfAttentionShape& shape) {
  const int64_t inner = shape.heads * shape.head_dim, row = 3 * inner,
                keys = kHopperAttentionShapes[shape_index(shape.head_dim)].keys;
  const auto map = [&](int64_t offset, int64_t rows) {
    return tensor_map<4>(
        driver, pointer<half>(Address{reinterpret_cast<uintptr_t>(qkv)} + static_cast<size_t>(offset) * 2),
        {shape.head_dim, shape.heads, shape.length, shape.images}, {shape.head_dim, row, shape.length * row},
        {64, 1, rows, 1});
  };
  HopperAttentionArgs args{};
  args.q = map(0, kHopperRows), args.keys = map(inner, keys), args.values = map(2 * inner, keys);
  AttentionArgs& a = args.attention;
  a.out = out;
  a.out_image = shape.length * inner;
  a.ldo = narrow(inner);
  a.q_length = a.k_length = narrow(shape.length), a.head_dim = narrow(shape.head_dim);
  a.scale = attention_scale(shape.head_dim);
  a.aligned = true;
  return args;
}

}  // namespace nd::cuda
