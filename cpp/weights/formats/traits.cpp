#include "weights/formats/traits.h"

#include "core/error.h"
#include "weights/formats/codecs.h"
#include "weights/formats/floats.h"

namespace nd {

namespace {

template <class Block>
constexpr TypeTraits row(TensorType type, const char* name, Decode decode, Encode encode) {
  return {type, name, Block::kCount, sizeof(Block), decode, encode};
}

constexpr TypeTraits kTraits[] = {
    {TensorType::f32, "f32", 1, 4, decode_f32, encode_f32},
    {TensorType::f16, "f16", 1, 2, decode_f16, encode_f16},
    {TensorType::bf16, "bf16", 1, 2, decode_bf16, encode_bf16},
    row<BlockQ8_0>(TensorType::q8_0, "q8_0", decode_q8_0, encode_q8_0),
    row<BlockQ5_0>(TensorType::q5_0, "q5_0", decode_q5_0, encode_q5_0),
    row<BlockQ5_1>(TensorType::q5_1, "q5_1", decode_q5_1, encode_q5_1),
    row<BlockQ4_0>(TensorType::q4_0, "q4_0", decode_q4_0, encode_q4_0),
    row<BlockQ4_1>(TensorType::q4_1, "q4_1", decode_q4_1, encode_q4_1),
    row<BlockQ6K>(TensorType::q6_k, "q6_k", decode_q6_k, encode_q6_k),
    row<BlockQ5K>(TensorType::q5_k, "q5_k", decode_q5_k, encode_q5_k),
    row<BlockQ4K>(TensorType::q4_k, "q4_k", decode_q4_k, encode_q4_k),
    row<BlockQ3K>(TensorType::q3_k, "q3_k", decode_q3_k, encode_q3_k),
    row<BlockQ2K>(TensorType::q2_k, "q2_k", decode_q2_k, encode_q2_k),
    {TensorType::f64, "f64", 1, 8, decode_f64, nullptr},
    {TensorType::f8_e4m3, "f8_e4m3", 1, 1, decode_f8_e4m3, nullptr},
    {TensorType::f8_e5m2, "f8_e5m2", 1, 1, decode_f8_e5m2, nullptr},
};

}  // namespace

const TypeTraits& traits(TensorType type) {
  for (const TypeTraits& row : kTraits)
    if (row.type == type) return row;
  throw Error(ErrorCode::unsupported_model,
              "Element type " + std::to_string(static_cast<int>(type)) + " is not known");
}

const TypeTraits* all_traits(int* count) {
  *count = sizeof kTraits / sizeof kTraits[0];
  return kTraits;
}

}  // namespace nd
