// What layers compute with, in terms that every backend understands.
#pragma once
#include <cstdint>

namespace nd {

/// What a matrix product multiplies; sums are float32 (int32 within a group of int8 or int16).
enum class Compute : int32_t { f32, bf16, i8, i16 };

enum class Activation : int32_t { none, silu, gelu, quick_gelu, geglu, relu };

}  // namespace nd
