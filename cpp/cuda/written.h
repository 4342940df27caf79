// Where each kernel writes. What is known of a tensor's numbers holds until one does (see Context::launch),
// so a kernel's arguments without a function here do not compile.
#pragma once
#include "cuda/kernels/arguments.h"

namespace nd::cuda {

// A kernel writes within one tensor; int8 rows have scales beside their codes, of which nothing else is
// known. Of kernels that share arguments, one may only read there.
inline const void* written(const ProductArgs& args) {
  return args.y;
}
inline const void* written(const HopperProductArgs& args) {
  return args.product.y;
}
inline const void* written(const Int8ProductArgs& args) {
  return args.product.y;
}
inline const void* written(const QuantizeArgs& args) {
  return args.y.codes;
}
inline const void* written(const AttentionArgs& args) {
  return args.out;
}
inline const void* written(const HopperAttentionArgs& args) {
  return args.attention.out;
}
inline const void* written(const MomentsArgs& args) {
  return args.moments;
}
inline const void* written(const MergeMomentsArgs& args) {
  return args.total;
}
inline const void* written(const GroupFactorsArgs& args) {
  return args.factors;
}
inline const void* written(const half* y, const Int8Rows& int8) {
  return int8.codes ? static_cast<const void*>(int8.codes) : y;
}
inline const void* written(const AffineArgs& args) {
  return written(args.y, args.int8);
}
inline const void* written(const GroupNormArgs& args) {
  return written(args.y, args.int8);
}
inline const void* written(const ModulateArgs& args) {
  return args.y;
}
inline const void* written(const LayerNormArgs& args) {
  return written(args.y, args.int8);
}
inline const void* written(const ConcatArgs& args) {
  return args.y;
}
inline const void* written(const AddArgs& args) {
  return args.y;
}
inline const void* written(const PoolArgs& args) {
  return args.y;
}
inline const void* written(const ResampleArgs& args) {
  return args.y;
}
inline const void* written(const PlanarArgs& args) {
  return args.rows;
}
inline const void* written(const StoreArgs& args) {
  return args.x;
}
inline const void* written(const MergeLengthsArgs& args) {
  return args.inverse;
}
inline const void* written(const MergeMatchArgs& args) {
  return args.similarity;
}
inline const void* written(const MergeAssignArgs& args) {
  return args.row;
}
inline const void* written(const MergeMeansArgs& args) {
  return args.y;
}
inline const void* written(const UnmergeArgs& args) {
  return args.x;
}
inline const void* written(const DecodeArgs& args) {
  return args.out;
}
inline const void* written(const GatherArgs& args) {
  return args.y;
}
inline const void* written(const NearestArgs& args) {
  return args.codes;
}

}  // namespace nd::cuda
