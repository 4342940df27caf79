// The kernels by number: what the module calls them, and how they are launched.
#pragma once
#include "cuda/kernels/arguments.h"

namespace nd::cuda {

enum class Kernel : int {
  product_narrow,
  product_small,
  product_large_pointwise,
  product_narrow_pointwise,
  product_small_pointwise,
  product_square,
  product_square_pointwise,
  product_unaligned,
  product_finish,
  product_finish_moments,
  attention_40,
  attention_64,
  attention_80,
  attention_128,
  attention_160,
  attention_40_unaligned,
  attention_wide,
  channel_moments,
  merge_moments,
  group_factors,
  affine,
  group_norm,
  modulate,
  layer_norm,
  concat,
  add_rows,
  average_pool,
  resample,
  planar_to_rows,
  rows_to_planar,
  store_rows,
  load_rows,
  gather,
  nearest,
  decode_blocks,
  merge_lengths,
  merge_match,
  merge_assign,
  merge_means,
  unmerge,
  quantize_rows,
  affine_int8,
  group_norm_int8,
  layer_norm_int8,
  product_int8_small,
  product_int8_narrow,
  product_int8_large,
  step_operations,
  step_rescale,
  // Those of Hopper (sm_90a) come last; other GPUs lack them.
  product_hopper_128,
  product_hopper_256,
  product_hopper_160,
  attention_hopper_40,
  attention_hopper_64,
  attention_hopper_80,
  attention_hopper_128,
  attention_hopper_160,
  count
};

struct KernelInfo {
  const char* name;
  int threads;
  int shared_bytes;
};

constexpr KernelInfo kKernels[] = {
    {"product_narrow", kNarrowTile.threads(), product_shared_bytes(kNarrowTile)},
    {"product_small", kSmallTile.threads(), product_shared_bytes(kSmallTile)},
    {"product_large_pointwise", kLargeTile.threads(), product_shared_bytes(kLargeTile)},
    {"product_narrow_pointwise", kNarrowTile.threads(), product_shared_bytes(kNarrowTile)},
    {"product_small_pointwise", kSmallTile.threads(), product_shared_bytes(kSmallTile)},
    {"product_square", kSquareTile.threads(), product_shared_bytes(kSquareTile)},
    {"product_square_pointwise", kSquareTile.threads(), product_shared_bytes(kSquareTile)},
    {"product_unaligned", kSmallTile.threads(), product_shared_bytes(kSmallTile)},
    {"product_finish", kFinishThreads, 0},
    {"product_finish_moments", kFinishThreads, kFinishMomentsSharedBytes},
    {"attention_40", kAttentionThreads, kAttentionShapes[0].shared_bytes()},
    {"attention_64", kAttentionThreads, kAttentionShapes[1].shared_bytes()},
    {"attention_80", kAttentionThreads, kAttentionShapes[2].shared_bytes()},
    {"attention_128", kAttentionThreads, kAttentionShapes[3].shared_bytes()},
    {"attention_160", kAttentionThreads, kAttentionShapes[4].shared_bytes()},
    {"attention_40_unaligned", kAttentionThreads, kAttentionShapes[0].shared_bytes()},
    {"attention_wide", kWideThreads, kWideSharedBytes},
    {"channel_moments", kMomentThreads, kMomentsSharedBytes},
    {"merge_moments", kMoveThreads, 0},
    {"group_factors", kFactorThreads, kGroupFactorsSharedBytes},
    {"affine", kMoveThreads, 0},
    {"group_norm", kNormThreads, kGroupNormSharedBytes},
    {"modulate", kMoveThreads, 0},
    {"layer_norm", kMoveThreads, 0},
    {"concat", kMoveThreads, 0},
    {"add_rows", kMoveThreads, 0},
    {"average_pool", kMoveThreads, 0},
    {"resample", kMoveThreads, 0},
    {"planar_to_rows", kTransposeThreads, kTransposeSharedBytes},
    {"rows_to_planar", kTransposeThreads, kTransposeSharedBytes},
    {"store_rows", kMoveThreads, 0},
    {"load_rows", kMoveThreads, 0},
    {"gather", kMoveThreads, 0},
    {"nearest", kMoveThreads, 0},
    {"decode_blocks", kMoveThreads, 0},
    {"merge_lengths", kMoveThreads, 0},
    {"merge_match", kMergeThreads, kMergeSharedBytes},
    {"merge_assign", kMergeAssignThreads, kMergeAssignSharedBytes},
    {"merge_means", kMoveThreads, 0},
    {"unmerge", kMoveThreads, 0},
    {"quantize_rows", kMoveThreads, 0},
    {"affine_int8", kMoveThreads, 0},
    {"group_norm_int8", kNormThreads, kGroupNormSharedBytes},
    {"layer_norm_int8", kMoveThreads, 0},
    {"product_int8_small", kInt8Tiles[0].threads(), int8_shared_bytes(kInt8Tiles[0])},
    {"product_int8_narrow", kInt8Tiles[1].threads(), int8_shared_bytes(kInt8Tiles[1])},
    {"product_int8_large", kInt8Tiles[2].threads(), int8_shared_bytes(kInt8Tiles[2])},
    {"step_operations", kMoveThreads, 0},
    {"step_rescale", kRescaleThreads, kRescaleSharedBytes},
    {"product_hopper_128", kHopperThreads, kHopperTiles[0].shared_bytes()},
    {"product_hopper_256", kHopperThreads, kHopperTiles[1].shared_bytes()},
    {"product_hopper_160", kHopperThreads, kHopperTiles[2].shared_bytes()},
    {"attention_hopper_40", kHopperThreads, kHopperAttentionShapes[0].shared_bytes()},
    {"attention_hopper_64", kHopperThreads, kHopperAttentionShapes[1].shared_bytes()},
    {"attention_hopper_80", kHopperThreads, kHopperAttentionShapes[2].shared_bytes()},
    {"attention_hopper_128", kHopperThreads, kHopperAttentionShapes[3].shared_bytes()},
    {"attention_hopper_160", kHopperThreads, kHopperAttentionShapes[4].shared_bytes()},
};
static_assert(sizeof kKernels / sizeof kKernels[0] == static_cast<int>(Kernel::count),
              "one row for each kernel");

constexpr bool is_hopper(Kernel kernel) {
  return kernel >= Kernel::product_hopper_128;
}
constexpr bool is_hopper_product(Kernel kernel) {
  return is_hopper(kernel) && kernel < Kernel::attention_hopper_40;
}

constexpr bool is_int8(Kernel kernel) {
  return kernel >= Kernel::product_int8_small && kernel <= Kernel::product_int8_large;
}

/// Of the attention kernels that run everywhere, but for that of wide heads.
constexpr AttentionShape attention_shape(Kernel kernel) {
  return kAttentionShapes[kernel == Kernel::attention_40_unaligned
                              ? 0
                              : static_cast<int>(kernel) - static_cast<int>(Kernel::attention_40)];
}
/// Queries of a block, and keys of a step.
constexpr int attention_queries(Kernel kernel) {
  return kernel == Kernel::attention_wide ? kWideQueries : attention_shape(kernel).queries();
}
constexpr int attention_keys(Kernel kernel) {
  return kernel == Kernel::attention_wide ? kWideKeys : attention_shape(kernel).keys;
}

}  // namespace nd::cuda
